// Client and server on Java's JSSE; the commands are those of peer.h. A HelloRetryRequest needs a JVM of its own,
// started with -Djdk.tls.namedGroups=secp384r1: the groups are the JVM's, not a socket's, in this version.
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

    static SSLContext context(String name) throws Exception {
        KeyStore trust = KeyStore.getInstance("PKCS12");
        trust.load(null, null);
        try (InputStream in = new FileInputStream(keys + "/ca.pem")) {
            trust.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
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
        made.init(mine, trusted.getTrustManagers(), null);
        return made;
    }

    static String why(Throwable e) { return e.getClass().getSimpleName() + ": " + e.getMessage(); }

    // The SunJSSE sessions do not say whether they resumed; their creation time does: before the handshake began.
    static boolean resumed(SSLSession session, long began) { return session.getCreationTime() < began; }

    static void serve(SSLSocket socket) {
        String host = socket.getLocalAddress().getHostAddress();
        String version = "-", subject = "-", says = "";
        boolean again = false;
        int rounds = 0;
        try (socket) {
            socket.setSoTimeout(5000);
            long began = System.currentTimeMillis();
            socket.startHandshake();
            SSLSession session = socket.getSession();
            version = session.getProtocol();
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
        say("server", host, version, again ? "1" : "0", subject, rounds > 0 ? "ok" : "refused", rounds > 0 ? "" : says);
    }

    static void listen(String port, String version, String mode) {
        try {
            SSLServerSocket server = (SSLServerSocket) context("server").getServerSocketFactory().createServerSocket(Integer.parseInt(port));
            server.setEnabledProtocols(new String[] {"TLSv" + version});
            if (mode.equals("optional")) server.setWantClientAuth(true);
            if (mode.equals("required")) server.setNeedClientAuth(true);
            Thread loop = new Thread(() -> {
                try { while (true) serve((SSLSocket) server.accept()); } catch (IOException e) { }
            });
            loop.setDaemon(true);
            loop.start();
            say("ready", port);
        } catch (Exception e) {
            say("cannot", port, why(e));
        }
    }

    static void connect(String host, int port, String version, String cert, String slot, int rounds, int size, boolean closeFirst) {
        SSLContext context;
        try {
            context = slots.get(slot);
            if (context == null) context = context(cert);
            if (!slot.equals("-")) slots.put(slot, context);
        } catch (Exception e) {
            say("client", "-", "0", "cannot", why(e));
            return;
        }
        String seen = "-";
        boolean again = false;
        try (Socket raw = new Socket(host, port);
             SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(raw, "server.example", port, true)) {
            raw.setSoTimeout(5000);
            socket.setEnabledProtocols(new String[] {"TLSv" + version});
            long began = System.currentTimeMillis();
            socket.startHandshake();
            seen = socket.getSession().getProtocol();
            again = resumed(socket.getSession(), began);
            byte[] buf = new byte[17000];
            for (int i = 0; i < rounds; i++) {
                String head = "GET / HTTP/1.1\r\nHost: server.example\r\n";
                if (closeFirst && i == rounds - 1) head += "Connection: close\r\n";
                head += "X-Pad: ";
                head += "x".repeat(Math.max(0, size - 4 - head.length())) + "\r\n\r\n";
                socket.getOutputStream().write(head.getBytes());
                if (socket.getInputStream().read(buf) <= 0) throw new EOFException("connection ended");
            }
            if (closeFirst) socket.getInputStream().read(buf);
            say("client", seen, again ? "1" : "0", "ok", "");
        } catch (Exception e) {
            say("client", seen, again ? "1" : "0", "refused", why(e));
        }
    }

    public static void main(String[] args) throws Exception {
        keys = args[0];
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            String[] w = line.split("\t");
            if (w[0].equals("listen")) listen(w[1], w[2], w[3]);
            if (w[0].equals("connect"))
                connect(w[1], Integer.parseInt(w[2]), w[3], w[4], w[5], Integer.parseInt(w[6]), Integer.parseInt(w[7]), w[8].equals("1"));
        }
    }
}
