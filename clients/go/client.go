// Package keychainauth is a client of keychain-auth, without dependencies.
//
//	client, err := keychainauth.New()
//	url, found, err := client.Get("AgentSecrets", "proj_123:staging:DATABASE_URL")
//
// What it keeps (docs/protocol.md):
//   - The socket is opened close-on-exec (package net does so), by this process, at the first request.
//   - A Client may be used by several goroutines; they take turns.
//   - What the daemon refuses is an *Error with its reason. No error holds a value.
//   - The daemon closes idle connections. The next request opens a new one; what changes nothing, or was not sent
//     whole, is repeated once.
//   - Before anything is sent: who listens must be this user or root (SO_PEERCRED, on Linux), in a folder of the same
//     owner that nobody else can write.
//
// Not promised: anything after a fork without an exec, which Go programs do not do. Windows is not served.
package keychainauth

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// ErrNotRunning says that nothing listens.
var ErrNotRunning = errors.New("keychain-auth daemon is not running. Start it with: keychain-auth start")

var errBadAnswer = errors.New("the answer is not one of the keychain-auth protocol")

// Error is what the daemon refused.
type Error struct {
	Reason string // as in the protocol, "service_not_allowed"
	Status string // "denied" or "error"
}

func (e *Error) Error() string { return "Daemon rejected request: " + e.Reason }

// Secret is one result. A search has no values.
type Secret struct {
	Target     string            `json:"target"`
	Value      string            `json:"value"`
	Attributes map[string]string `json:"attributes"`
}

// Request is a request as the protocol has it. The fields that are empty are left out.
type Request struct {
	Action     string            `json:"action"`
	Service    string            `json:"service"`
	Match      string            `json:"match,omitempty"`
	Targets    []string          `json:"targets,omitempty"`
	Values     []string          `json:"values,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Encode is the line of a request, with its newline.
func (r Request) Encode() ([]byte, error) {
	for _, texts := range [][]string{{r.Service}, r.Targets, r.Values} {
		for _, text := range texts {
			if !utf8.ValidString(text) { // package json would send something else in its place
				return nil, errors.New("names and values are text in UTF-8, and one of these is not")
			}
		}
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(struct {
		Type string `json:"type"`
		Request
	}{"REQUEST", r})
	return line.Bytes(), err
}

// Client is a connection to the daemon, opened when it is needed.
type Client struct {
	// Timeout is for each request, from its beginning to the end of its answer.
	Timeout time.Duration

	path       string
	mutex      sync.Mutex
	connection *net.UnixConn
	reader     *bufio.Reader
}

// New makes a client of the daemon at $KEYCHAIN_AUTH_SOCKET, or else of the user's, or else of the machine's.
func New() (*Client, error) {
	path, err := socketPath()
	if err != nil {
		return nil, err
	}
	return At(path), nil
}

// At makes a client of the daemon that listens at path.
func At(path string) *Client { return &Client{Timeout: 30 * time.Second, path: path} }

// Get returns the value of one secret, and whether there is one.
func (c *Client) Get(service, target string) (string, bool, error) {
	found, err := c.Read(service, target)
	if err != nil || len(found) == 0 {
		return "", false, err
	}
	return found[0].Value, true, nil
}

// Read returns the secrets of these names, in their order. What does not exist is left out.
func (c *Client) Read(service string, targets ...string) ([]Secret, error) {
	return c.Do(Request{Action: "read", Service: service, Targets: targets})
}

// ReadPrefix returns the secrets whose names begin with one of the prefixes, sorted.
func (c *Client) ReadPrefix(service string, prefixes ...string) ([]Secret, error) {
	return c.Do(Request{Action: "read", Service: service, Match: "prefix", Targets: prefixes})
}

// Search returns names and attributes, sorted; of the whole service if there are no prefixes.
func (c *Client) Search(service string, prefixes ...string) ([]Secret, error) {
	return c.Do(Request{Action: "search", Service: service, Targets: prefixes})
}

// Write stores values (target to value) in one transaction, each with these attributes.
func (c *Client) Write(service string, values, attributes map[string]string) error {
	request := Request{Action: "write", Service: service, Attributes: attributes}
	for target, value := range values {
		request.Targets = append(request.Targets, target)
		request.Values = append(request.Values, value)
	}
	_, err := c.Do(request)
	return err
}

// Delete removes secrets in one transaction. What does not exist is no error.
func (c *Client) Delete(service string, targets ...string) error {
	_, err := c.Do(Request{Action: "delete", Service: service, Targets: targets})
	return err
}

// Check returns nil if this program may read, write and search the service.
func (c *Client) Check(service string) error {
	_, err := c.Do(Request{Action: "check", Service: service})
	return err
}

// Do sends a request and returns its results.
func (c *Client) Do(request Request) ([]Secret, error) {
	line, err := request.Encode()
	if err != nil {
		return nil, err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	deadline := time.Now().Add(c.Timeout)
	reused := c.connection != nil
	answer, sent, err := c.exchange(line, deadline)
	// A line that was not sent whole is never executed.
	repeatable := !sent || (request.Action != "write" && request.Action != "delete")
	if err != nil && reused && repeatable && time.Now().Before(deadline) {
		answer, _, err = c.exchange(line, deadline)
	}
	if err != nil {
		return nil, err
	}
	found, err := results(answer)
	if errors.Is(err, errBadAnswer) {
		c.drop() // whatever comes next on this connection is nobody's answer
	}
	return found, err
}

// Close ends the connection. A later request opens a new one.
func (c *Client) Close() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.drop()
	return nil
}

// exchange sends the line and reads its answer; sent says whether all of the line went out.
func (c *Client) exchange(line []byte, deadline time.Time) (answer []byte, sent bool, err error) {
	if err := c.connect(deadline); err != nil {
		return nil, false, err
	}
	c.connection.SetDeadline(deadline)
	// The daemon may refuse before it has read everything: then writing fails, and its answer can be read all the same.
	_, unsent := c.connection.Write(line)
	answer, err = c.reader.ReadBytes('\n')
	if err != nil {
		c.drop()
		if unsent != nil {
			err = unsent
		}
		return nil, unsent == nil, fmt.Errorf("the daemon closed the connection before it had answered: %w", err)
	}
	return answer, true, nil
}

func (c *Client) connect(deadline time.Time) error {
	if c.connection != nil {
		return nil
	}
	dialer := net.Dialer{Deadline: deadline}
	opened, err := dialer.Dial("unix", c.path)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNotRunning
	}
	if err != nil {
		return err
	}
	connection := opened.(*net.UnixConn)
	if err := checkListener(connection, c.path); err != nil {
		connection.Close()
		return err
	}
	c.connection, c.reader = connection, bufio.NewReader(connection)
	return nil
}

func (c *Client) drop() {
	if c.connection != nil {
		c.connection.Close()
		c.connection, c.reader = nil, nil
	}
}

// checkListener returns an error unless this user or root listens at path, in a folder of his own.
func checkListener(connection *net.UnixConn, path string) error {
	folder := filepath.Dir(path)
	about, err := os.Stat(folder)
	if err != nil {
		return err
	}
	owner := about.Sys().(*syscall.Stat_t).Uid
	listener := owner
	if uid, known := peerUID(connection); known {
		listener = uid
	}
	own := uint32(os.Geteuid())
	if (listener != own && listener != 0) || owner != listener || about.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("what listens on %s is not trusted: others own its folder, or can write it", path)
	}
	return nil
}

func results(line []byte) ([]Secret, error) {
	var answer struct {
		Type    string   `json:"type"`
		Status  string   `json:"status"`
		Reason  string   `json:"reason"`
		Results []Secret `json:"results"`
	}
	// The error of the JSON package is dropped: it can show a part of the line.
	if json.Unmarshal(line, &answer) != nil || answer.Type != "RESPONSE" {
		return nil, errBadAnswer
	}
	if answer.Status != "success" {
		return nil, &Error{Reason: answer.Reason, Status: answer.Status}
	}
	return answer.Results, nil
}

func socketPath() (string, error) {
	if chosen := os.Getenv("KEYCHAIN_AUTH_SOCKET"); chosen != "" {
		return filepath.Abs(chosen)
	}
	folder := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(folder) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		folder = filepath.Join(home, ".cache")
		if runtime.GOOS == "darwin" {
			folder = filepath.Join(home, "Library", "Application Support")
		}
	}
	own := filepath.Join(folder, "keychain-auth", "agent.sock")
	system := "/run/keychain-auth/agent.sock"
	if !exists(own) && exists(system) {
		return system, nil
	}
	return own, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
