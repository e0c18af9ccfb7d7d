// Client and server on Go's crypto/tls; the commands are those of peer.h.
//
// Words after those are options, KEY=VALUE, for a network of machines of their own (captures/lab):
//
//	listen   cert=NAME what to show; suites=A+B; many=SECONDS connections beside each other, so long each
//	connect  name=SNI; from=PORT; lax=1 accepts any certificate; suites=A+B; pause=SECONDS before the last request
//	close PORT
//
// A version may be a range (1.0-1.3), a MODE also "any" (a certificate is required, not verified) and "asked" (not even required).
// Reports end in more words: the other end's address, the SHA-1 fingerprint of its certificate, and a client's last HTTP status.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	keys  string
	out   sync.Mutex
	slots = map[string]tls.ClientSessionCache{}
	ports = map[string]net.Listener{}
	roots = x509.NewCertPool()
)

func say(words ...string) {
	for i, word := range words {
		words[i] = strings.NewReplacer("\t", " ", "\n", " ").Replace(word)
	}
	out.Lock()
	fmt.Println(strings.Join(words, "\t"))
	out.Unlock()
}

var numbers = map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func versions(word string) (uint16, uint16) {
	least, most, ranged := strings.Cut(word, "-")
	if !ranged {
		most = least
	}
	return numbers[least], numbers[most]
}

func name(version uint16) string {
	for word, number := range numbers {
		if number == version {
			return strings.TrimSuffix("TLSv"+word, ".0")
		}
	}
	return "-"
}

func options(words []string) map[string]string {
	found := map[string]string{}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		found[key] = value
	}
	return found
}

func seconds(word string) time.Duration {
	n, _ := strconv.Atoi(word)
	return time.Duration(n) * time.Second
}

func suites(names string) []uint16 {
	var found []uint16
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		for _, each := range strings.Split(names, "+") {
			if suite.Name == each {
				found = append(found, suite.ID)
			}
		}
	}
	return found
}

func print(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return "-"
	}
	return fmt.Sprintf("%x", sha1.Sum(state.PeerCertificates[0].Raw))
}

func flag(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

func pair(which string) (tls.Certificate, error) {
	return tls.LoadX509KeyPair(keys+"/"+which+".pem", keys+"/"+which+".key")
}

func serve(raw net.Conn, config *tls.Config, patience time.Duration) {
	defer raw.Close()
	host, _, _ := net.SplitHostPort(raw.LocalAddr().String())
	from := raw.RemoteAddr().String()
	raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Server(raw, config)
	if err := conn.Handshake(); err != nil {
		say("server", host, "-", "0", "-", "refused", err.Error(), from, "-")
		return
	}
	state := conn.ConnectionState()
	subject := "-"
	if len(state.PeerCertificates) > 0 {
		subject = state.PeerCertificates[0].Subject.String()
	}
	rounds, says := 0, ""
	buf, got := make([]byte, 17000), 0
	for {
		n, err := conn.Read(buf[got:])
		got += n
		if err != nil {
			if rounds == 0 {
				says = err.Error()
			}
			break
		}
		if !bytes.HasSuffix(buf[:got], []byte("\r\n\r\n")) {
			continue
		}
		body := got*7%900 + 2
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", body, strings.Repeat("o", body))
		rounds++
		if bytes.Contains(buf[:got], []byte("Connection: close")) {
			break
		}
		got = 0
	}
	conn.Close()
	result := "ok"
	if rounds == 0 {
		result = "refused"
	}
	say("server", host, name(state.Version), flag(state.DidResume), subject, result, says, from, print(state))
}

func listen(port, version, mode, hrr string, more map[string]string) {
	shown := more["cert"]
	if shown == "" {
		shown = "server"
	}
	cert, err := pair(shown)
	if err != nil {
		say("cannot", port, err.Error())
		return
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: roots, CipherSuites: suites(more["suites"])}
	config.MinVersion, config.MaxVersion = versions(version)
	if mode == "any" || mode == "asked" { // what is not verified has no list of authorities to choose by
		config.ClientCAs = nil
	}
	config.ClientAuth = map[string]tls.ClientAuthType{"none": tls.NoClientCert, "optional": tls.VerifyClientCertIfGiven,
		"required": tls.RequireAndVerifyClientCert, "any": tls.RequireAnyClientCert, "asked": tls.RequestClientCert}[mode]
	if hrr == "1" {
		config.CurvePreferences = []tls.CurveID{tls.CurveP384}
	}
	listener, err := net.Listen("tcp4", "0.0.0.0:"+port)
	if err != nil {
		say("cannot", port, err.Error())
		return
	}
	ports[port] = listener
	go func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			if more["many"] != "" {
				go serve(raw, config, seconds(more["many"]))
			} else {
				serve(raw, config, 5*time.Second)
			}
		}
	}()
	say("ready", port)
}

func connect(host, port, version, cert, slot string, rounds, size int, closeFirst bool, more map[string]string) {
	config := &tls.Config{RootCAs: roots, ServerName: "server.example", CipherSuites: suites(more["suites"]), InsecureSkipVerify: more["lax"] != ""}
	if more["name"] != "" {
		config.ServerName = more["name"]
	}
	config.MinVersion, config.MaxVersion = versions(version)
	if cert != "-" {
		mine, err := pair(cert)
		if err != nil {
			say("client", "-", "0", "cannot", err.Error())
			return
		}
		config.Certificates = []tls.Certificate{mine}
	}
	if slot != "-" {
		if slots[slot] == nil {
			slots[slot] = tls.NewLRUClientSessionCache(4)
		}
		config.ClientSessionCache = slots[slot]
	}
	from, _ := strconv.Atoi(more["from"])
	dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{Port: from}}
	raw, err := dialer.Dial("tcp4", host+":"+port)
	if err != nil {
		say("client", "-", "0", "cannot", err.Error())
		return
	}
	raw.SetDeadline(time.Now().Add(5*time.Second + seconds(more["pause"])))
	conn := tls.Client(raw, config)
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		say("client", "-", "0", "refused", err.Error())
		return
	}
	state := conn.ConnectionState()
	buf, status := make([]byte, 17000), "-"
	for i := 0; i < rounds; i++ {
		if i == rounds-1 {
			time.Sleep(seconds(more["pause"]))
		}
		head := "GET / HTTP/1.1\r\nHost: server.example\r\n"
		if closeFirst && i == rounds-1 {
			head += "Connection: close\r\n"
		}
		head += "X-Pad: "
		fill := size - 4 - len(head)
		if fill < 0 {
			fill = 0
		}
		if _, err = conn.Write([]byte(head + strings.Repeat("x", fill) + "\r\n\r\n")); err == nil {
			var n int
			if n, err = conn.Read(buf); n > 0 {
				err = nil // the answer and its close_notify may come in one call
			}
			if n > 12 {
				status = string(buf[9:12])
			}
		}
		if err != nil {
			say("client", name(state.Version), flag(state.DidResume), "refused", err.Error(), host, print(state), status)
			return
		}
	}
	if closeFirst {
		conn.Read(buf)
	}
	conn.Close()
	say("client", name(state.Version), flag(state.DidResume), "ok", "", host, print(state), status)
}

func main() {
	keys = os.Args[1]
	pem, _ := os.ReadFile(keys + "/ca.pem")
	roots.AppendCertsFromPEM(pem)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		w := strings.Split(lines.Text(), "\t")
		if w[0] == "listen" {
			listen(w[1], w[2], w[3], w[4], options(w[5:]))
		}
		if w[0] == "close" {
			ports[w[1]].Close()
			say("closed", w[1])
		}
		if w[0] == "connect" {
			rounds, _ := strconv.Atoi(w[6])
			size, _ := strconv.Atoi(w[7])
			more := options(w[9:])
			if more["pause"] != "" { // long ones beside the others
				go connect(w[1], w[2], w[3], w[4], w[5], rounds, size, w[8] == "1", more)
				continue
			}
			connect(w[1], w[2], w[3], w[4], w[5], rounds, size, w[8] == "1", more)
		}
	}
}
