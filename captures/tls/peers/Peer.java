// Client and server on Java's JSSE; the commands are those of peer.h. A HelloRetryRequest needs a JVM of its own,
// started with -Djdk.tls.namedGroups=secp384r1: the groups are the JVM's, not a socket's, in this version.
// Options after the words of peer.h, and the words that its reports end in, are those of peer.go: cert, many; name, from, lax; close PORT.
import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.security.*;
import java.security.cert.*;
import java.util.*;
import javax.net.ssl.*;

public class Peer {
    static String keys;
    static final Map<String, SSLContext> slots = new HashMap<>();
    static final char[] NONE = "none".toCharArray();

    static synchronized void say(String... words) {
        for (int i = 0; i < words.length; i++) words[i] = words[i].replace('\t', ' ').replace('\n', ' ');
        System.out.println(String.join("\t", words));
        System.out.flush();
    }

    static Map<String, String> options(String[] words, int from) {
        Map<String, String> found = new HashMap<>();
        for (int i = from; i < words.length; i++) {
            int at = words[i].indexOf('=');
            found.put(words[i].substring(0, at), words[i].substring(at + 1));
        }
        return found;
    }

    static String print(SSLSession session) {
        try {
            byte[] der = session.getPeerCertificates()[0].getEncoded();
            return String.format("%040x", new java.math.BigInteger(1, MessageDigest.getInstance("SHA-1").digest(der)));
        } catch (Exception e) { return "-"; }
    }

    static final TrustManager[] ANYBODY = {new X509ExtendedTrustManager() {
        public void checkClientTrusted(X509Certificate[] chain, String type) { }
        public void checkServerTrusted(X509Certificate[] chain, String type) { }
        public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) { }
        public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) { }
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) { }
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) { }
        public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
    }};

    static SSLContext context(String name, boolean lax) throws Exception {
        KeyStore trust = KeyStore.getInstance("PKCS12");
        trust.load(null, null);
        try (InputStream in = new FileInputStream(keys + "/ca.pem")) {
            int i = 0;
            for (java.security.cert.Certificate each : CertificateFactory.getInstance("X.509").generateCertificates(in))
                trust.setCertificateEntry("ca" + i++, each);
        }
        TrustManagerFactory trusted = TrustManagerFactory.getInstance("PKIX");
        trusted.init(trust);
        KeyManager[] mine = null;
        if (!name.equals("-")) {
            KeyStore store = KeyStore.getInstance("PKCS12");
            try (InputStream in = new FileInputStream(keys + "/" + name + ".p12")) { store.load(in, NONE); }
            KeyManagerFactory factory = KeyManagerFactory.getInstance("SunX509");
            factory.init(store, NONE);
            mine = factory.getKeyManagers();
        }
        SSLContext made = SSLContext.getInstance("TLS");
        made.init(mine, lax ? ANYBODY : trusted.getTrustManagers(), null);
        return made;
    }

    static String why(Throwable e) { return e.getClass().getSimpleName() + ": " + e.getMessage(); }

    // The SunJSSE sessions do not say whether they resumed; their creation time does: before the handshake began.
    static boolean resumed(SSLSession session, long began) { return session.getCreationTime() < began; }

    static void serve(SSLSocket socket) {
        String host = socket.getLocalAddress().getHostAddress();
        String from = socket.getInetAddress().getHostAddress() + ":" + socket.getPort(), seen = "-";
        String version = "-", subject = "-", says = "";
        boolean again = false;
        int rounds = 0;
        try (socket) {
            socket.setSoTimeout(5000);
            long began = System.currentTimeMillis();
            socket.startHandshake();
            SSLSession session = socket.getSession();
            version = session.getProtocol();
            seen = print(session);
            again = resumed(session, began);
            try { subject = ((X509Certificate) session.getPeerCertificates()[0]).getSubjectX500Principal().getName(); }
            catch (SSLPeerUnverifiedException e) { subject = "-"; }
            InputStream in = socket.getInputStream();
            OutputStream reply = socket.getOutputStream();
            byte[] buf = new byte[17000];
            int got = 0;
            while (true) {
                int n = in.read(buf, got, buf.length - got);
                if (n <= 0) break;
                got += n;
                String text = new String(buf, 0, got, StandardCharsets.ISO_8859_1);
                if (!text.endsWith("\r\n\r\n")) continue;
                int body = got * 7 % 900 + 2;
                reply.write(("HTTP/1.1 200 OK\r\nContent-Length: " + body + "\r\n\r\n" + "o".repeat(body)).getBytes());
                reply.flush();
                rounds++;
                got = 0;
                if (text.contains("Connection: close")) break;
            }
        } catch (Exception e) {
            says = why(e);
        }
        say("server", host, version, again ? "1" : "0", subject, rounds > 0 ? "ok" : "refused", rounds > 0 ? "" : says, from, seen);
    }

    static final Map<String, SSLServerSocket> ports = new HashMap<>();

    static void listen(String port, String version, String mode, Map<String, String> more) {
        try {
            SSLServerSocket server = (SSLServerSocket) context(more.getOrDefault("cert", "server"), false).getServerSocketFactory().createServerSocket(Integer.parseInt(port));
            server.setEnabledProtocols(version.equals("1.2-1.3") ? new String[] {"TLSv1.2", "TLSv1.3"} : new String[] {"TLSv" + version});
            if (mode.equals("optional")) server.setWantClientAuth(true);
            if (mode.equals("required")) server.setNeedClientAuth(true);
            ports.put(port, server);
            Thread loop = new Thread(() -> {
                try {
                    while (true) {
                        SSLSocket socket = (SSLSocket) server.accept();
                        if (more.containsKey("many")) new Thread(() -> serve(socket)).start();
                        else serve(socket);
                    }
                } catch (IOException e) { }
            });
            loop.setDaemon(true);
            loop.start();
            say("ready", port);
        } catch (Exception e) {
            say("cannot", port, why(e));
        }
    }

    static Socket dial(String host, int port, Map<String, String> more) throws IOException {
        Socket raw = new Socket();
        raw.setReuseAddress(true);
        raw.bind(new InetSocketAddress(Integer.parseInt(more.getOrDefault("from", "0"))));
        raw.connect(new InetSocketAddress(host, port), 5000);
        return raw;
    }

    static void connect(String host, int port, String version, String cert, String slot, int rounds, int size, boolean closeFirst,
                        Map<String, String> more) {
        SSLContext context;
        String other = "-", status = "-";
        try {
            context = slots.get(slot);
            if (context == null) context = context(cert, more.containsKey("lax"));
            if (!slot.equals("-")) slots.put(slot, context);
        } catch (Exception e) {
            say("client", "-", "0", "cannot", why(e));
            return;
        }
        String seen = "-";
        boolean again = false;
        String name = more.getOrDefault("name", "server.example");
        try (Socket raw = dial(host, port, more);
             SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(raw, name, port, true)) {
            raw.setSoTimeout(5000);
            socket.setEnabledProtocols(new String[] {"TLSv" + version});
            long began = System.currentTimeMillis();
            socket.startHandshake();
            seen = socket.getSession().getProtocol();
            other = print(socket.getSession());
            again = resumed(socket.getSession(), began);
            byte[] buf = new byte[17000];
            for (int i = 0; i < rounds; i++) {
                String head = "GET / HTTP/1.1\r\nHost: server.example\r\n";
                if (closeFirst && i == rounds - 1) head += "Connection: close\r\n";
                head += "X-Pad: ";
                head += "x".repeat(Math.max(0, size - 4 - head.length())) + "\r\n\r\n";
                socket.getOutputStream().write(head.getBytes());
                int n = socket.getInputStream().read(buf);
                if (n <= 0) throw new EOFException("connection ended");
                if (n > 12) status = new String(buf, 9, 3, StandardCharsets.ISO_8859_1);
            }
            if (closeFirst) socket.getInputStream().read(buf);
            say("client", seen, again ? "1" : "0", "ok", "", host, other, status);
        } catch (Exception e) {
            say("client", seen, again ? "1" : "0", "refused", why(e), host, other, status);
        }
    }

    public static void main(String[] args) throws Exception {
        keys = args[0];
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            String[] w = line.split("\t");
            if (w[0].equals("listen")) listen(w[1], w[2], w[3], options(w, 5));
            if (w[0].equals("close")) {
                ports.get(w[1]).close();
                say("closed", w[1]);
            }
            if (w[0].equals("connect"))
                connect(w[1], Integer.parseInt(w[2]), w[3], w[4], w[5], Integer.parseInt(w[6]), Integer.parseInt(w[7]), w[8].equals("1"),
                    options(w, 9));
        }
    }
}
