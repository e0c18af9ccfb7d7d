/* Client and server on the OpenSSL interface: OpenSSL itself, BoringSSL (-DBORING) and wolfSSL (-DWOLF).
 * OpenSSL with settings that change shapes: -DPAD (records padded to 1024), -DFRAG (512 bytes a record at most),
 * -DLATE (the client offers authentication after the handshake, the server asks for it then). */
#ifdef WOLF
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/openssl/ssl.h>
#include <wolfssl/openssl/err.h>
#else
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif
#include "peer.h"

#ifdef WOLF
typedef WOLFSSL_SESSION SSL_SESSION_T;
#else
typedef SSL_SESSION SSL_SESSION_T;
#endif
struct slot { char name[64]; SSL_SESSION_T *session; };
static struct slot slots[4096];
static int n_slots;
static __thread SSL_SESSION_T **fresh;

static int take(void *s, char *buf, int len) { return SSL_read((SSL *)s, buf, len); }
static int give(void *s, char *buf, int len) { return SSL_write((SSL *)s, buf, len); }

static void last_error(char *says, int room, SSL *ssl, int rc)
{
    unsigned long e = ERR_peek_error();
    if (e) ERR_error_string_n(e, says, room);
    else {
#ifdef WOLF
        char text[128] = "";
        wolfSSL_ERR_error_string(ssl ? wolfSSL_get_error(ssl, rc) : rc, text);
        snprintf(says, room, "%s", text);
#else
        snprintf(says, room, "SSL_get_error %d", ssl ? SSL_get_error(ssl, rc) : rc);
#endif
    }
    ERR_clear_error();
}

static int limit(SSL_CTX *ctx, const char *version)
{
#ifdef WOLF
    int v = strcmp(version, "1.3") ? WOLFSSL_TLSV1_2 : WOLFSSL_TLSV1_3;
    (void)v;
    return 1; /* the method chosen fixes the version */
#else
    int v = strcmp(version, "1.3") ? TLS1_2_VERSION : TLS1_3_VERSION;
    return SSL_CTX_set_min_proto_version(ctx, v) && SSL_CTX_set_max_proto_version(ctx, v);
#endif
}

static SSL_CTX *context(const char *version, int server)
{
#ifdef WOLF
    int v13 = !strcmp(version, "1.3");
    return wolfSSL_CTX_new(server ? (v13 ? wolfTLSv1_3_server_method() : wolfTLSv1_2_server_method())
                                  : (v13 ? wolfTLSv1_3_client_method() : wolfTLSv1_2_client_method()));
#else
    return SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
#endif
}

static void shape(SSL_CTX *ctx)
{
#ifdef PAD
    SSL_CTX_set_block_padding(ctx, 1024);
#endif
#ifdef FRAG
    SSL_CTX_set_max_send_fragment(ctx, 512);
#endif
    (void)ctx;
}

static int load(SSL_CTX *ctx, const char *name)
{
#ifdef BORING
    /* off in BoringSSL unless asked for: say so, so that the cell is made by the stack and not refused by its default */
    static const uint16_t all[] = {0x0403, 0x0503, 0x0804, 0x0805, 0x0806, 0x0401, 0x0807};
    SSL_CTX_set_verify_algorithm_prefs(ctx, all, 7);
    if (!strcmp(name, "ed25519")) SSL_CTX_set_signing_algorithm_prefs(ctx, all, 7);
#endif
    return SSL_CTX_use_certificate_chain_file(ctx, key_path(name, ".pem")) == 1 &&
           SSL_CTX_use_PrivateKey_file(ctx, key_path(name, ".key"), SSL_FILETYPE_PEM) == 1;
}

#ifdef WOLF
/* wolfSSL gives no X509 for an Ed25519 certificate: that one was there to verify is then all it says (it calls back without one, too). */
static __thread int verified;
static int on_verify(int ok, WOLFSSL_X509_STORE_CTX *store)
{
    verified = store->totalCerts > 0;
    return ok;
}
#endif

static void *make_server(const char *version, const char *mode, int hrr, char *says, int room)
{
    SSL_CTX *ctx = context(version, 1);
    if (!ctx || !limit(ctx, version) || !load(ctx, "server") ||
        SSL_CTX_load_verify_locations(ctx, key_path("ca", ".pem"), NULL) != 1) {
        last_error(says, room, NULL, 0);
        return NULL;
    }
    int verify = !strcmp(mode, "none") ? SSL_VERIFY_NONE
               : !strcmp(mode, "optional") ? SSL_VERIFY_PEER : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
#ifdef LATE
    if (verify != SSL_VERIFY_NONE && !strcmp(version, "1.3")) verify |= SSL_VERIFY_POST_HANDSHAKE;
#endif
    SSL_CTX_set_verify(ctx, verify, NULL);
    shape(ctx);
#ifdef WOLF
    wolfSSL_CTX_set_verify(ctx, verify, strcmp(mode, "none") ? on_verify : NULL);
    if (hrr) {
        int groups[] = {WOLFSSL_ECC_SECP384R1};
        if (!strcmp(version, "1.3")) wolfSSL_CTX_set_groups(ctx, groups, 1);
    }
#else
    static const char scope[] = "corpus";
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)scope, sizeof scope - 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER);
    if (verify != SSL_VERIFY_NONE) SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(key_path("ca", ".pem")));
    if (hrr && SSL_CTX_set1_curves_list(ctx, "P-384") != 1) {
        last_error(says, room, NULL, 0);
        return NULL;
    }
#endif
    return ctx;
}

static void name_of(SSL *ssl, struct report *r)
{
    X509 *cert = SSL_get_peer_certificate(ssl);
#ifdef WOLF
    if (!cert && verified) snprintf(r->subject, sizeof r->subject, "a certificate");
#endif
    if (!cert) return;
    char *text = X509_NAME_oneline(X509_get_subject_name(cert), NULL, 0);
    snprintf(r->subject, sizeof r->subject, "%s", text ? text : "?");
    X509_free(cert);
}

static void serve(void *config, int fd, struct report *r)
{
    SSL *ssl = SSL_new(config);
    char says[300];
    SSL_set_fd(ssl, fd);
    ERR_clear_error();
#ifdef WOLF
    verified = 0;
#endif
    int rc = SSL_accept(ssl);
    if (rc != 1) {
        last_error(says, sizeof says, ssl, rc);
        set(r, "refused", "%s", says);
    } else {
        snprintf(r->version, sizeof r->version, "%s", SSL_get_version(ssl));
        r->resumed = SSL_session_reused(ssl);
#ifdef LATE
        if (SSL_get_verify_mode(ssl) & SSL_VERIFY_POST_HANDSHAKE && SSL_verify_client_post_handshake(ssl) == 1) SSL_do_handshake(ssl);
#endif
        name_of(ssl, r);
        int rounds = answer_loop(ssl, take, give);
        set(r, rounds ? "ok" : "refused", rounds ? "" : "no request came");
#ifdef LATE
        name_of(ssl, r); /* it comes with the first data that the client sends */
#endif
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
}

#ifndef WOLF
static int keep(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    if (!fresh) return 0;
    if (*fresh) SSL_SESSION_free(*fresh);
    *fresh = session;
    return 1;
}
#endif

static void call(const struct wish *w, struct report *r)
{
    char says[300];
    struct slot *slot = NULL;
    SSL_CTX *ctx = context(w->version, 0);
    if (!ctx || !limit(ctx, w->version) || SSL_CTX_load_verify_locations(ctx, key_path("ca", ".pem"), NULL) != 1 ||
        (strcmp(w->cert, "-") && !load(ctx, w->cert))) {
        last_error(says, sizeof says, NULL, 0);
        set(r, "cannot", "%s", says);
        return;
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    shape(ctx);
#ifdef LATE
    SSL_CTX_set_post_handshake_auth(ctx, 1);
#endif
    if (strcmp(w->slot, "-")) {
        for (int i = 0; i < n_slots; i++)
            if (!strcmp(slots[i].name, w->slot)) slot = &slots[i];
        if (!slot && n_slots < 4096) snprintf((slot = &slots[n_slots++])->name, sizeof slot->name, "%s", w->slot);
    }
    fresh = slot ? &slot->session : NULL;
#ifdef WOLF
    if (!strcmp(w->version, "1.2")) wolfSSL_CTX_UseSessionTicket(ctx);
#else
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep);
#endif
    SSL *ssl = SSL_new(ctx);
    int fd = dial(w);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, "server.example");
    if (slot && slot->session) SSL_set_session(ssl, slot->session);
    ERR_clear_error();
    int rc = SSL_connect(ssl);
    if (rc != 1) {
        last_error(says, sizeof says, ssl, rc);
        set(r, "refused", "%s", says);
    } else {
        snprintf(r->version, sizeof r->version, "%s", SSL_get_version(ssl));
        r->resumed = SSL_session_reused(ssl);
        int rounds = ask_loop(ssl, take, give, w);
        if (rounds < w->rounds) {
            last_error(says, sizeof says, ssl, -1);
            set(r, "refused", "%s", says);
        } else set(r, "ok", "");
#ifdef WOLF
        if (slot && !slot->session) slot->session = wolfSSL_get1_session(ssl);
#endif
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
}
