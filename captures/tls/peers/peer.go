// Client and server on Go's crypto/tls; the commands are those of peer.h.
package main

import (
	"bufio"
	"bytes"
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

func number(version string) uint16 {
	if version == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

func name(version uint16) string {
	return map[uint16]string{tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3"}[version]
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

func serve(raw net.Conn, config *tls.Config) {
	defer raw.Close()
	host, _, _ := net.SplitHostPort(raw.LocalAddr().String())
	raw.SetDeadline(time.Now().Add(5 * time.Second))
	conn := tls.Server(raw, config)
	if err := conn.Handshake(); err != nil {
		say("server", host, "-", "0", "-", "refused", err.Error())
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
	say("server", host, name(state.Version), flag(state.DidResume), subject, result, says)
}

func listen(port, version, mode, hrr string) {
	cert, err := pair("server")
	if err != nil {
		say("cannot", port, err.Error())
		return
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: roots, MinVersion: number(version), MaxVersion: number(version)}
	config.ClientAuth = map[string]tls.ClientAuthType{"none": tls.NoClientCert, "optional": tls.VerifyClientCertIfGiven,
		"required": tls.RequireAndVerifyClientCert}[mode]
	if hrr == "1" {
		config.CurvePreferences = []tls.CurveID{tls.CurveP384}
	}
	listener, err := net.Listen("tcp4", "0.0.0.0:"+port)
	if err != nil {
		say("cannot", port, err.Error())
		return
	}
	go func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			serve(raw, config)
		}
	}()
	say("ready", port)
}

func connect(host, port, version, cert, slot string, rounds, size int, closeFirst bool) {
	config := &tls.Config{RootCAs: roots, ServerName: "server.example", MinVersion: number(version), MaxVersion: number(version)}
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
	raw, err := net.DialTimeout("tcp4", host+":"+port, 5*time.Second)
	if err != nil {
		say("client", "-", "0", "cannot", err.Error())
		return
	}
	raw.SetDeadline(time.Now().Add(5 * time.Second))
	conn := tls.Client(raw, config)
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		say("client", "-", "0", "refused", err.Error())
		return
	}
	state := conn.ConnectionState()
	buf := make([]byte, 17000)
	for i := 0; i < rounds; i++ {
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
		}
		if err != nil {
			say("client", name(state.Version), flag(state.DidResume), "refused", err.Error())
			return
		}
	}
	if closeFirst {
		conn.Read(buf)
	}
	conn.Close()
	say("client", name(state.Version), flag(state.DidResume), "ok", "")
}

func main() {
	keys = os.Args[1]
	pem, _ := os.ReadFile(keys + "/ca.pem")
	roots.AppendCertsFromPEM(pem)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		w := strings.Split(lines.Text(), "\t")
		if w[0] == "listen" {
			listen(w[1], w[2], w[3], w[4])
		}
		if w[0] == "connect" {
			rounds, _ := strconv.Atoi(w[6])
			size, _ := strconv.Atoi(w[7])
			connect(w[1], w[2], w[3], w[4], w[5], rounds, size, w[8] == "1")
		}
	}
}
