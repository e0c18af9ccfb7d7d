/* Client and server on Mbed TLS 2.28, which has no TLS 1.3. */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cache.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/version.h>
#include "peer.h"

struct config {
    mbedtls_ssl_config conf;
    mbedtls_x509_crt own, ca;
    mbedtls_pk_context key;
    mbedtls_ssl_cache_context cache;
    mbedtls_ssl_ticket_context tickets;
};
struct slot { char name[64]; mbedtls_ssl_session session; int full; };
static struct slot slots[1024];
static int n_slots;
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context rng;
static int seeded;

static __thread int verified;
static int seen(void *unused, mbedtls_x509_crt *cert, int depth, uint32_t *flags)
{
    (void)unused, (void)cert, (void)depth, (void)flags;
    verified = 1; /* called in full handshakes only: the one way to learn that a session resumed */
    return 0;
}

static int take(void *s, char *buf, int len) { return mbedtls_ssl_read(s, (unsigned char *)buf, len); }
static int give(void *s, char *buf, int len) { return mbedtls_ssl_write(s, (unsigned char *)buf, len); }

static int prepare(struct config *c, int side, const char *version, const char *cert, char *says, int room)
{
    int rc = 0;
    if (!seeded) {
        mbedtls_entropy_init(&entropy);
        mbedtls_ctr_drbg_init(&rng);
        rc = mbedtls_ctr_drbg_seed(&rng, mbedtls_entropy_func, &entropy, NULL, 0);
        seeded = 1;
    }
    mbedtls_ssl_config_init(&c->conf);
    mbedtls_x509_crt_init(&c->own);
    mbedtls_x509_crt_init(&c->ca);
    mbedtls_pk_init(&c->key);
    if (!strcmp(version, "1.3")) {
        snprintf(says, room, "(our reason) Mbed TLS %s has no TLS 1.3 (MBEDTLS_SSL_PROTO_TLS1_3 is experimental and not compiled in)", MBEDTLS_VERSION_STRING);
        return -1;
    }
    if (!rc) rc = mbedtls_ssl_config_defaults(&c->conf, side, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (!rc) rc = mbedtls_x509_crt_parse_file(&c->ca, key_path("ca", ".pem"));
    if (!rc && strcmp(cert, "-")) {
        rc = mbedtls_x509_crt_parse_file(&c->own, key_path(cert, ".pem"));
        if (!rc) rc = mbedtls_pk_parse_keyfile(&c->key, key_path(cert, ".key"), NULL);
        if (!rc) rc = mbedtls_ssl_conf_own_cert(&c->conf, &c->own, &c->key);
    }
    if (rc) {
        mbedtls_strerror(rc, says, room);
        return rc;
    }
    mbedtls_ssl_conf_rng(&c->conf, mbedtls_ctr_drbg_random, &rng);
    mbedtls_ssl_conf_min_version(&c->conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_ca_chain(&c->conf, &c->ca, NULL);
    return 0;
}

static void *make_server(const char *version, const char *mode, int hrr, char *says, int room)
{
    struct config *c = calloc(1, sizeof *c);
    (void)hrr;
    if (prepare(c, MBEDTLS_SSL_IS_SERVER, version, "server", says, room)) return NULL;
    mbedtls_ssl_conf_authmode(&c->conf, !strcmp(mode, "none") ? MBEDTLS_SSL_VERIFY_NONE
                              : !strcmp(mode, "optional") ? MBEDTLS_SSL_VERIFY_OPTIONAL : MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_ticket_init(&c->tickets);
    mbedtls_ssl_ticket_setup(&c->tickets, mbedtls_ctr_drbg_random, &rng, MBEDTLS_CIPHER_AES_256_GCM, 86400);
    mbedtls_ssl_conf_session_tickets_cb(&c->conf, mbedtls_ssl_ticket_write, mbedtls_ssl_ticket_parse, &c->tickets);
    return c;
}

static int shake(mbedtls_ssl_context *ssl)
{
    int rc;
    do rc = mbedtls_ssl_handshake(ssl);
    while (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE);
    return rc;
}

static void serve(void *config, int fd, struct report *r)
{
    struct config *c = config;
    mbedtls_ssl_context ssl;
    mbedtls_net_context net = {fd};
    char says[200];
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_setup(&ssl, &c->conf);
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
    int rc = shake(&ssl);
    if (rc) {
        mbedtls_strerror(rc, says, sizeof says);
        set(r, "refused", "%s", says);
    } else {
        const mbedtls_x509_crt *peer = mbedtls_ssl_get_peer_cert(&ssl);
        snprintf(r->version, sizeof r->version, "%s", mbedtls_ssl_get_version(&ssl));
        if (peer) mbedtls_x509_dn_gets(r->subject, sizeof r->subject, &peer->subject);
        int rounds = answer_loop(&ssl, take, give);
        set(r, rounds ? "ok" : "refused", rounds ? "" : "no request came");
        mbedtls_ssl_close_notify(&ssl);
    }
    mbedtls_ssl_free(&ssl);
}

static void call(const struct wish *w, struct report *r)
{
    struct config *c = calloc(1, sizeof *c);
    struct slot *slot = NULL;
    mbedtls_ssl_context ssl;
    mbedtls_net_context net = {-1};
    char says[300] = "";
    if (prepare(c, MBEDTLS_SSL_IS_CLIENT, w->version, w->cert, says, sizeof says)) {
        set(r, "cannot", "%s", says);
        return;
    }
    if (strcmp(w->slot, "-")) {
        for (int i = 0; i < n_slots; i++)
            if (!strcmp(slots[i].name, w->slot)) slot = &slots[i];
        if (!slot && n_slots < 1024) snprintf((slot = &slots[n_slots++])->name, sizeof slot->name, "%s", w->slot);
    }
    verified = 0;
    mbedtls_ssl_conf_verify(&c->conf, seen, NULL);
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_setup(&ssl, &c->conf);
    mbedtls_ssl_set_hostname(&ssl, "server.example");
    if (slot && slot->full) mbedtls_ssl_set_session(&ssl, &slot->session);
    net.fd = dial(w);
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
    int rc = shake(&ssl);
    if (rc) {
        mbedtls_strerror(rc, says, sizeof says);
        set(r, "refused", "%s", says);
    } else {
        snprintf(r->version, sizeof r->version, "%s", mbedtls_ssl_get_version(&ssl));
        r->resumed = !verified;
        int rounds = ask_loop(&ssl, take, give, w);
        set(r, rounds < w->rounds ? "refused" : "ok", rounds < w->rounds ? "connection ended" : "");
        if (slot && !slot->full) {
            mbedtls_ssl_session_init(&slot->session);
            slot->full = mbedtls_ssl_get_session(&ssl, &slot->session) == 0;
        }
        mbedtls_ssl_close_notify(&ssl);
    }
    mbedtls_ssl_free(&ssl);
    close(net.fd);
}
