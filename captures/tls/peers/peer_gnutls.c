/* Client and server on GnuTLS. */
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include "peer.h"

struct config { gnutls_certificate_credentials_t keys; gnutls_priority_t order; gnutls_datum_t ticket; int mode; };
struct slot { char name[64]; gnutls_datum_t session; };
static struct slot slots[4096];
static int n_slots;

static int take(void *s, char *buf, int len)
{
    int n;
    do n = gnutls_record_recv(s, buf, len);
    while (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED);
    return n;
}
static int give(void *s, char *buf, int len) { return gnutls_record_send(s, buf, len); }

static int load(gnutls_certificate_credentials_t keys_of, const char *name)
{
    return gnutls_certificate_set_x509_key_file(keys_of, key_path(name, ".pem"), key_path(name, ".key"), GNUTLS_X509_FMT_PEM);
}

static void *make_server(const char *version, const char *mode, int hrr, char *says, int room)
{
    struct config *c = calloc(1, sizeof *c);
    char order[128];
    int rc;
    snprintf(order, sizeof order, "NORMAL:-VERS-ALL:+VERS-TLS%s%s", version, hrr ? ":-GROUP-ALL:+GROUP-SECP384R1" : "");
    gnutls_certificate_allocate_credentials(&c->keys);
    if ((rc = gnutls_priority_init(&c->order, order, NULL)) < 0 || (rc = load(c->keys, "server")) < 0 ||
        (rc = gnutls_certificate_set_x509_trust_file(c->keys, key_path("ca", ".pem"), GNUTLS_X509_FMT_PEM)) < 0) {
        snprintf(says, room, "%s", gnutls_strerror(rc));
        return NULL;
    }
    gnutls_session_ticket_key_generate(&c->ticket);
    c->mode = !strcmp(mode, "none") ? GNUTLS_CERT_IGNORE : !strcmp(mode, "optional") ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_REQUIRE;
    return c;
}

static const char *version_of(gnutls_session_t s) { return gnutls_protocol_get_name(gnutls_protocol_get_version(s)); }

static void serve(void *config, int fd, struct report *r)
{
    struct config *c = config;
    gnutls_session_t s;
    int rc;
    gnutls_init(&s, GNUTLS_SERVER);
    gnutls_priority_set(s, c->order);
    gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, c->keys);
    gnutls_certificate_server_set_request(s, c->mode);
    if (c->mode != GNUTLS_CERT_IGNORE) gnutls_session_set_verify_cert(s, NULL, 0);
    gnutls_session_ticket_enable_server(s, &c->ticket);
    gnutls_transport_set_int(s, fd);
    do rc = gnutls_handshake(s);
    while (rc < 0 && !gnutls_error_is_fatal(rc));
    if (rc < 0) {
        set(r, "refused", "%s", gnutls_strerror(rc));
        gnutls_alert_send_appropriate(s, rc);
    } else {
        unsigned n = 0;
        const gnutls_datum_t *chain = gnutls_certificate_get_peers(s, &n);
        snprintf(r->version, sizeof r->version, "%s", version_of(s));
        r->resumed = gnutls_session_is_resumed(s) != 0;
        if (n) {
            gnutls_x509_crt_t cert;
            size_t room = sizeof r->subject;
            gnutls_x509_crt_init(&cert);
            gnutls_x509_crt_import(cert, chain, GNUTLS_X509_FMT_DER);
            gnutls_x509_crt_get_dn(cert, r->subject, &room);
            gnutls_x509_crt_deinit(cert);
        }
        int rounds = answer_loop(s, take, give);
        set(r, rounds ? "ok" : "refused", rounds ? "" : "no request came");
        gnutls_bye(s, GNUTLS_SHUT_WR);
    }
    gnutls_deinit(s);
}

static void call(const struct wish *w, struct report *r)
{
    gnutls_certificate_credentials_t mine;
    gnutls_session_t s;
    struct slot *slot = NULL;
    char order[64];
    int rc = 0;
    gnutls_certificate_allocate_credentials(&mine);
    gnutls_certificate_set_x509_trust_file(mine, key_path("ca", ".pem"), GNUTLS_X509_FMT_PEM);
    if (strcmp(w->cert, "-") && (rc = load(mine, w->cert)) < 0) {
        set(r, "cannot", "%s", gnutls_strerror(rc));
        return;
    }
    if (strcmp(w->slot, "-")) {
        for (int i = 0; i < n_slots; i++)
            if (!strcmp(slots[i].name, w->slot)) slot = &slots[i];
        if (!slot && n_slots < 4096) snprintf((slot = &slots[n_slots++])->name, sizeof slot->name, "%s", w->slot);
    }
    snprintf(order, sizeof order, "NORMAL:-VERS-ALL:+VERS-TLS%s", w->version);
    gnutls_init(&s, GNUTLS_CLIENT);
    gnutls_priority_set_direct(s, order, NULL);
    gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, mine);
    gnutls_server_name_set(s, GNUTLS_NAME_DNS, "server.example", 14);
    gnutls_session_set_verify_cert(s, "server.example", 0);
    if (slot && slot->session.data) gnutls_session_set_data(s, slot->session.data, slot->session.size);
    int fd = dial(w);
    gnutls_transport_set_int(s, fd);
    do rc = gnutls_handshake(s);
    while (rc < 0 && !gnutls_error_is_fatal(rc));
    if (rc < 0) {
        set(r, "refused", "%s", gnutls_strerror(rc));
        gnutls_alert_send_appropriate(s, rc);
    } else {
        snprintf(r->version, sizeof r->version, "%s", version_of(s));
        r->resumed = gnutls_session_is_resumed(s) != 0;
        int rounds = ask_loop(s, take, give, w);
        if (rounds < w->rounds) {
            int alert = gnutls_alert_get(s);
            set(r, "refused", "connection ended, last alert: %s", gnutls_alert_get_name(alert) ? gnutls_alert_get_name(alert) : "none");
        } else set(r, "ok", "");
        if (slot && rounds == w->rounds && !slot->session.data) gnutls_session_get_data2(s, &slot->session);
        gnutls_bye(s, GNUTLS_SHUT_WR);
    }
    gnutls_deinit(s);
    gnutls_certificate_free_credentials(mine);
    close(fd);
}
