/* floor: what the work costs in plain C, as the yardstick of the benchmark.
 *
 * One thread, one pass over a classic pcap of Ethernet frames: read() into one 8 MiB buffer, walk the records, parse Ethernet, VLAN tags,
 * IPv4, IPv6, TCP and UDP, update a flow table keyed by the 5-tuple (both ways in one entry), and keep the first bytes of either direction
 * of every TCP connection. It does not look into those bytes, order segments, follow TCP's state, expire anything or write a table: whatever
 * an auditor does, it does at least this.
 *
 *   floor [--keep BYTES] [--reuse] FILE
 *     --keep BYTES  first payload bytes kept per direction (2048; 0 keeps none), in order of arrival
 *     --reuse       give a connection's bytes back once both ends sent FIN, or one sent RST
 *
 * A frame is walked where it lies in the buffer, and no length in it is believed before it is compared with what is left.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    BUFFER_BYTES = 8 << 20,
    FILE_HEADER_BYTES = 24,
    RECORD_HEADER_BYTES = 16,
    MAX_FRAME_BYTES = 262144,
    ETHERNET_BYTES = 14,
    TYPE_IPV4 = 0x0800,
    TYPE_IPV6 = 0x86DD,
    TYPE_VLAN = 0x8100,
    TYPE_QINQ = 0x88A8,
    PROTO_TCP = 6,
    PROTO_UDP = 17,
    FIN = 1,
    RST = 4,
    BLOCK_BYTES = 1 << 20,
};

typedef struct {
    uint8_t address[2][16]; /* the lower end first; IPv4 in the first four bytes */
    uint16_t port[2];
    uint8_t proto, version, pad[2];
} Key;

typedef struct {
    Key key;
    uint64_t packets[2], bytes[2];
    uint64_t first_us, last_us;
    uint8_t *head[2];
    uint32_t kept[2];
    uint8_t flags[2], used, closed;
} Flow;

static Flow *table;
static size_t table_size = 1 << 16, table_used;
static uint32_t keep_bytes = 2048;
static int reuse;

static uint8_t *block, *free_slots;
static size_t block_left;
static uint64_t slots_made, kept_total;

static uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static void die(const char *what) {
    fprintf(stderr, "floor: %s\n", what);
    exit(2);
}

/* A slot is keep_bytes of a block; free ones are chained through their first bytes. */
static uint8_t *slot_take(void) {
    if (free_slots) {
        uint8_t *slot = free_slots;
        memcpy(&free_slots, slot, sizeof free_slots);
        return slot;
    }
    if (block_left < keep_bytes) {
        if (!(block = malloc(BLOCK_BYTES))) die("out of memory");
        block_left = BLOCK_BYTES;
    }
    uint8_t *slot = block + (BLOCK_BYTES - block_left);
    block_left -= keep_bytes;
    slots_made++;
    return slot;
}

static void slot_give(uint8_t *slot) {
    memcpy(slot, &free_slots, sizeof free_slots);
    free_slots = slot;
}

static uint64_t hash(const Key *key) {
    uint64_t word[5], h = 0x9E3779B97F4A7C15u;
    memcpy(word, key, sizeof word);
    for (int i = 0; i < 5; i++) {
        h = (h ^ word[i]) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 32;
    }
    return h;
}

static Flow *find(Flow *in, size_t size, const Key *key) {
    size_t at = hash(key) & (size - 1);
    while (in[at].used && memcmp(&in[at].key, key, sizeof *key)) at = (at + 1) & (size - 1);
    return &in[at];
}

static void grow(void) {
    size_t wider = table_size * 2;
    Flow *moved = calloc(wider, sizeof *moved);
    if (!moved) die("out of memory");
    for (size_t i = 0; i < table_size; i++)
        if (table[i].used) *find(moved, wider, &table[i].key) = table[i];
    free(table);
    table = moved;
    table_size = wider;
}

static void account(const Key *key, int way, uint64_t now_us, uint32_t ip_bytes, uint8_t flags, const uint8_t *payload, uint32_t size) {
    Flow *flow = find(table, table_size, key);
    if (!flow->used) {
        if (table_used * 2 >= table_size) {
            grow();
            flow = find(table, table_size, key);
        }
        flow->key = *key;
        flow->used = 1;
        flow->first_us = now_us;
        table_used++;
    }
    flow->packets[way]++;
    flow->bytes[way] += ip_bytes;
    flow->flags[way] |= flags;
    flow->last_us = now_us;
    if (key->proto != PROTO_TCP) return;
    if (size && flow->kept[way] < keep_bytes && !flow->closed) {
        if (!flow->head[way]) flow->head[way] = slot_take();
        uint32_t room = keep_bytes - flow->kept[way];
        uint32_t taken = size < room ? size : room;
        memcpy(flow->head[way] + flow->kept[way], payload, taken);
        flow->kept[way] += taken;
        kept_total += taken;
    }
    if (reuse && !flow->closed && ((flow->flags[0] & flow->flags[1] & FIN) || (flags & RST))) {
        flow->closed = 1;
        for (int i = 0; i < 2; i++)
            if (flow->head[i]) {
                slot_give(flow->head[i]);
                flow->head[i] = NULL;
            }
    }
}

/* Returns 1 if the frame was counted in a flow. */
static int frame(const uint8_t *p, uint32_t left, uint64_t now_us) {
    if (left < ETHERNET_BYTES) return 0;
    uint16_t type = be16(p + 12);
    p += ETHERNET_BYTES, left -= ETHERNET_BYTES;
    while (type == TYPE_VLAN || type == TYPE_QINQ) {
        if (left < 4) return 0;
        type = be16(p + 2);
        p += 4, left -= 4;
    }
    Key key;
    memset(&key, 0, sizeof key);
    const uint8_t *source, *target;
    uint32_t address_bytes, ip_bytes;
    if (type == TYPE_IPV4) {
        if (left < 20 || p[0] >> 4 != 4) return 0;
        uint32_t header = (p[0] & 15) * 4u;
        ip_bytes = be16(p + 2);
        if (header < 20 || ip_bytes < header || left < header) return 0;
        if (be16(p + 6) & 0x1FFF) return 0; /* a later fragment has no ports */
        key.proto = p[9], key.version = 4;
        source = p + 12, target = p + 16, address_bytes = 4;
        if (left > ip_bytes) left = ip_bytes; /* Ethernet padding */
        p += header, left -= header;
    } else if (type == TYPE_IPV6) {
        if (left < 40 || p[0] >> 4 != 6) return 0;
        ip_bytes = 40u + be16(p + 4);
        key.proto = p[6], key.version = 6;
        source = p + 8, target = p + 24, address_bytes = 16;
        if (left > ip_bytes) left = ip_bytes;
        p += 40, left -= 40;
        while (key.proto == 0 || key.proto == 43 || key.proto == 60) { /* hop-by-hop, routing, destination options */
            if (left < 8) return 0;
            uint32_t size = (p[1] + 1u) * 8u;
            if (left < size) return 0;
            key.proto = p[0];
            p += size, left -= size;
        }
    } else {
        return 0;
    }
    uint8_t flags = 0;
    uint32_t header = 8;
    if (key.proto == PROTO_TCP) {
        if (left < 20) return 0;
        header = (p[12] >> 4) * 4u;
        flags = p[13];
        if (header < 20 || left < header) return 0;
    } else if (key.proto != PROTO_UDP || left < 8) {
        return 0;
    }
    uint16_t sport = be16(p), dport = be16(p + 2);
    int order = memcmp(source, target, address_bytes);
    int way = order > 0 || (order == 0 && sport > dport); /* 0: sent by the lower end */
    memcpy(key.address[way], source, address_bytes);
    memcpy(key.address[1 - way], target, address_bytes);
    key.port[way] = sport, key.port[1 - way] = dport;
    account(&key, way, now_us, ip_bytes, flags, p + header, left - header);
    return 1;
}

int main(int argc, char **argv) {
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--reuse")) reuse = 1;
        else if (!strcmp(argv[i], "--keep") && i + 1 < argc) keep_bytes = (uint32_t)strtoul(argv[++i], NULL, 10);
        else path = argv[i];
    }
    if (!path) die("usage: floor [--keep BYTES] [--reuse] FILE");
    if (keep_bytes > BLOCK_BYTES) die("--keep: at most 1048576");
    if (keep_bytes && keep_bytes < sizeof free_slots) keep_bytes = sizeof free_slots;
    int in = open(path, O_RDONLY);
    if (in < 0) die("cannot open the file");
    uint8_t *buffer = malloc(BUFFER_BYTES);
    table = calloc(table_size, sizeof *table);
    if (!buffer || !table) die("out of memory");

    size_t have = 0, at = 0;
    int begun = 0;
    uint64_t frames = 0, counted = 0;
    uint32_t unit = 1;
    for (;;) {
        memmove(buffer, buffer + at, have - at);
        have -= at, at = 0;
        ssize_t got = read(in, buffer + have, BUFFER_BYTES - have);
        if (got <= 0) break;
        have += (size_t)got;
        if (!begun) {
            if (have < FILE_HEADER_BYTES) continue;
            uint32_t magic;
            memcpy(&magic, buffer, 4);
            if (magic == 0xA1B23C4D) unit = 1000;
            else if (magic != 0xA1B2C3D4) die("not a pcap of this machine's byte order");
            at = FILE_HEADER_BYTES, begun = 1;
        }
        while (have - at >= RECORD_HEADER_BYTES) {
            uint32_t head[4]; /* seconds, fraction, captured, on the wire */
            memcpy(head, buffer + at, sizeof head);
            if (head[2] > MAX_FRAME_BYTES) die("a record longer than any frame");
            if (have - at - RECORD_HEADER_BYTES < head[2]) break;
            counted += (uint64_t)frame(buffer + at + RECORD_HEADER_BYTES, head[2], head[0] * 1000000ull + head[1] / unit);
            frames++;
            at += RECORD_HEADER_BYTES + head[2];
        }
    }
    uint64_t tcp = 0, udp = 0, bytes = 0;
    for (size_t i = 0; i < table_size; i++)
        if (table[i].used) {
            if (table[i].key.proto == PROTO_TCP) tcp++;
            else udp++;
            bytes += table[i].bytes[0] + table[i].bytes[1];
        }
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    printf("frames %llu\ncounted %llu\nip_bytes %llu\ntcp_connections %llu\nudp_flows %llu\nkept_bytes %llu\nslots %llu\ncpu_seconds %.3f\n",
           (unsigned long long)frames, (unsigned long long)counted, (unsigned long long)bytes, (unsigned long long)tcp,
           (unsigned long long)udp, (unsigned long long)kept_total, (unsigned long long)slots_made,
           (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + 1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec));
    return 0;
}
