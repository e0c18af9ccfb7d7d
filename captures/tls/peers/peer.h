/* What the C peers share: they read one command a line on standard input and report one line a connection.
 *
 *   listen   PORT VERSION MODE HRR                    MODE: none, optional, required; HRR: 1 makes a HelloRetryRequest needed
 *   connect  HOST PORT VERSION CERT SLOT ROUNDS SIZE CLOSE   CERT: - or a name in the key folder; SLOT: - or where to keep the session
 *
 * answers, separated by tabs:
 *   ready PORT | cannot PORT SAYS
 *   client VERSION RESUMED RESULT SAYS                RESULT: ok, refused, cannot
 *   server HOST VERSION RESUMED SUBJECT RESULT SAYS   HOST: the address that was called; SUBJECT: - when no certificate came
 *
 * The application exchange is the same in all peers: ROUNDS requests of SIZE bytes, each answered in one write.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct report { char version[24]; int resumed; char subject[200]; char result[16]; char says[400]; };
struct wish { const char *host; int port; const char *version, *cert, *slot; int rounds, size, close_first; };
typedef int (*mover)(void *session, char *buf, int len);

static char keys[512];
static pthread_mutex_t out = PTHREAD_MUTEX_INITIALIZER;

/* Each stack offers these three. */
static void *make_server(const char *version, const char *mode, int hrr, char *says, int room);
static void serve(void *config, int fd, struct report *r);
static void call(const struct wish *w, struct report *r);
static int dial(const struct wish *w);

static void set(struct report *r, const char *result, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    snprintf(r->result, sizeof r->result, "%s", result);
    vsnprintf(r->says, sizeof r->says, format, args);
    va_end(args);
    for (char *p = r->says; *p; p++)
        if (*p == '\t' || *p == '\n') *p = ' ';
}

static const char *key_path(const char *name, const char *suffix)
{
    static __thread char paths[2][600];
    static __thread int turn;
    turn ^= 1;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s%s", keys, name, suffix);
    return paths[turn];
}

static int answer_loop(void *session, mover take, mover give)
{
    char buf[17000], reply[2048];
    int rounds = 0;
    for (;;) {
        int got = 0, n;
        while ((n = take(session, buf + got, (int)sizeof buf - 1 - got)) > 0) {
            got += n;
            buf[got] = 0;
            if (got >= 4 && !memcmp(buf + got - 4, "\r\n\r\n", 4)) break;
        }
        if (n <= 0) return rounds;
        int body = got * 7 % 900 + 2;
        int head = snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", body);
        memset(reply + head, 'o', body);
        if (give(session, reply, head + body) <= 0) return rounds;
        rounds++;
        if (strstr(buf, "Connection: close")) return rounds;
    }
}

static int ask_loop(void *session, mover take, mover give, const struct wish *w)
{
    char buf[17000];
    for (int i = 0; i < w->rounds; i++) {
        int n = snprintf(buf, sizeof buf, "GET / HTTP/1.1\r\nHost: server.example\r\n%sX-Pad: ",
                         w->close_first && i == w->rounds - 1 ? "Connection: close\r\n" : "");
        while (n < w->size - 4) buf[n++] = 'x';
        memcpy(buf + n, "\r\n\r\n", 4);
        if (give(session, buf, n + 4) <= 0) return i;
        if (take(session, buf, sizeof buf) <= 0) return i;
    }
    if (w->close_first) take(session, buf, sizeof buf);
    return w->rounds;
}

static void patience(int fd)
{
    struct timeval limit = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

struct listener { void *config; int fd, port; };

static void *accept_loop(void *given)
{
    struct listener *l = given;
    for (;;) {
        int fd = accept(l->fd, NULL, NULL);
        if (fd < 0) return NULL;
        struct sockaddr_in called;
        socklen_t room = sizeof called;
        getsockname(fd, (struct sockaddr *)&called, &room);
        struct report r = {"-", 0, "-", "refused", ""};
        patience(fd);
        serve(l->config, fd, &r);
        close(fd);
        pthread_mutex_lock(&out);
        printf("server\t%s\t%s\t%d\t%s\t%s\t%s\n", inet_ntoa(called.sin_addr), r.version, r.resumed, r.subject, r.result, r.says);
        fflush(stdout);
        pthread_mutex_unlock(&out);
    }
}

static void listen_on(int port, const char *version, const char *mode, int hrr)
{
    char says[400] = "";
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct listener *l = calloc(1, sizeof *l);
    int one = 1;
    l->port = port;
    l->config = make_server(version, mode, hrr, says, sizeof says);
    if (l->config) {
        l->fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(l->fd, (struct sockaddr *)&at, sizeof at) || listen(l->fd, 16)) { perror("listen"); exit(1); }
        pthread_t thread;
        pthread_create(&thread, NULL, accept_loop, l);
    }
    pthread_mutex_lock(&out);
    if (l->config) printf("ready\t%d\n", port);
    else printf("cannot\t%d\t%s\n", port, says);
    fflush(stdout);
    pthread_mutex_unlock(&out);
}

/* Called once keys and settings are in place: a client that cannot make its cell makes no connection. */
static int dial(const struct wish *w)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    inet_pton(AF_INET, w->host, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    patience(fd);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) perror("connect");
    return fd;
}

static void connect_to(const struct wish *w)
{
    struct report r = {"-", 0, "-", "refused", ""};
    call(w, &r);
    pthread_mutex_lock(&out);
    printf("client\t%s\t%d\t%s\t%s\n", r.version, r.resumed, r.result, r.says);
    fflush(stdout);
    pthread_mutex_unlock(&out);
}

int main(int argc, char **argv)
{
    static char line[2048];
    if (argc < 2) return 2;
    snprintf(keys, sizeof keys, "%s", argv[1]);
    signal(SIGPIPE, SIG_IGN);
    while (fgets(line, sizeof line, stdin)) {
        char *word[10] = {0}, *save = NULL;
        int n = 0;
        for (char *p = strtok_r(line, "\t\n", &save); p && n < 10; p = strtok_r(NULL, "\t\n", &save)) word[n++] = p;
        if (n == 5 && !strcmp(word[0], "listen")) listen_on(atoi(word[1]), word[2], word[3], atoi(word[4]));
        if (n == 9 && !strcmp(word[0], "connect")) {
            struct wish w = {word[1], atoi(word[2]), word[3], word[4], word[5], atoi(word[6]), atoi(word[7]), atoi(word[8])};
            connect_to(&w);
        }
    }
    return 0;
}
