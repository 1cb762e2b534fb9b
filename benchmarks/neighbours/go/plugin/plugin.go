// Package plugin speaks the Docker graph-driver plugin protocol to a driver that is served anew for each home.
//
// NEIGHBOURS_SERVER is the command that serves it (server.py), a JSON list of words: it reads paths of sockets, and
// tells the id of the process that serves each.
package plugin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Change is an entry of the list of changes; Kind is 0 for modify, 1 for add and 2 for delete.
type Change struct {
	Path string
	Kind int
}

type answer struct {
	Err      string
	Dir      string
	Exists   bool
	Status   [][2]string
	Metadata map[string]string
	Changes  []Change
	Size     int64
}

// Driver is a driver in a process of its own, opened on one home.
type Driver struct {
	directory string
	process   int
	client    *http.Client
}

var (
	starting sync.Mutex
	paths    io.Writer
	numbers  *bufio.Reader
)

// serve has the command serve a socket; the id of the process that does.
func serve(socket string) (int, error) {
	starting.Lock()
	defer starting.Unlock()
	if paths == nil {
		if err := start(); err != nil {
			return 0, err
		}
	}
	if _, err := fmt.Fprintln(paths, socket); err != nil {
		return 0, err
	}
	line, err := numbers.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("the driver is not served: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(line))
}

func start() error {
	var words []string
	if err := json.Unmarshal([]byte(os.Getenv("NEIGHBOURS_SERVER")), &words); err != nil {
		return fmt.Errorf("NEIGHBOURS_SERVER is no JSON list of words: %w", err)
	}
	command := exec.Command(words[0], words[1:]...)
	input, err := command.StdinPipe()
	if err != nil {
		return err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	paths, numbers = input, bufio.NewReader(output)
	return command.Start()
}

// Open has the driver served, and opens it on a home.
func Open(home string) (*Driver, error) {
	directory, err := os.MkdirTemp("", "neighbours-")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(directory, "socket")
	process, err := serve(socket)
	if err != nil {
		os.RemoveAll(directory)
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	d := &Driver{directory, process, &http.Client{Transport: &http.Transport{DialContext: dial}}}
	if _, err := d.call("Init", map[string]interface{}{"Home": home}); err != nil {
		d.end()
		return nil, err
	}
	return d, nil
}

func (d *Driver) end() {
	// It has nothing more to do, and need not be asked to end.
	syscall.Kill(d.process, syscall.SIGKILL)
	os.RemoveAll(d.directory)
}

func (d *Driver) post(call string, body io.Reader) (*http.Response, error) {
	return d.client.Post("http://plugin/GraphDriver."+call, "application/json", body)
}

func (d *Driver) call(name string, fields map[string]interface{}) (answer, error) {
	request, err := json.Marshal(fields)
	if err != nil {
		return answer{}, err
	}
	response, err := d.post(name, bytes.NewReader(request))
	if err != nil {
		return answer{}, err
	}
	return read(response)
}

func read(response *http.Response) (answer, error) {
	defer response.Body.Close()
	var said answer
	if err := json.NewDecoder(response.Body).Decode(&said); err != nil {
		return said, err
	}
	if said.Err != "" {
		return said, errors.New(said.Err)
	}
	return said, nil
}

func named(id string) map[string]interface{} {
	return map[string]interface{}{"ID": id}
}

func between(id, parent string) map[string]interface{} {
	return map[string]interface{}{"ID": id, "Parent": parent}
}

// Create makes a layer; with readWrite one for a container.
func (d *Driver) Create(id, parent string, readWrite bool, options map[string]string) error {
	name := "Create"
	if readWrite {
		name = "CreateReadWrite"
	}
	fields := between(id, parent)
	if options != nil {
		fields["StorageOpt"] = options
	}
	_, err := d.call(name, fields)
	return err
}

// Remove removes a layer.
func (d *Driver) Remove(id string) error {
	_, err := d.call("Remove", named(id))
	return err
}

// Get is the path of a layer's tree.
func (d *Driver) Get(id, label string) (string, error) {
	fields := named(id)
	fields["MountLabel"] = label
	said, err := d.call("Get", fields)
	return said.Dir, err
}

// Put gives a tree back.
func (d *Driver) Put(id string) error {
	_, err := d.call("Put", named(id))
	return err
}

// Exists says whether there is such a layer.
func (d *Driver) Exists(id string) bool {
	said, err := d.call("Exists", named(id))
	return err == nil && said.Exists
}

// Status is what the driver says of itself.
func (d *Driver) Status() [][2]string {
	said, _ := d.call("Status", nil)
	return said.Status
}

// Metadata is what the driver says of a layer.
func (d *Driver) Metadata(id string) (map[string]string, error) {
	said, err := d.call("GetMetadata", named(id))
	return said.Metadata, err
}

// Changes are those of a layer in its parent.
func (d *Driver) Changes(id, parent string) ([]Change, error) {
	said, err := d.call("Changes", between(id, parent))
	return said.Changes, err
}

// DiffSize is the size of a diff in bytes.
func (d *Driver) DiffSize(id, parent string) (int64, error) {
	said, err := d.call("DiffSize", between(id, parent))
	return said.Size, err
}

// Diff is the archive of what a layer changes in its parent.
func (d *Driver) Diff(id, parent string) (io.ReadCloser, error) {
	request, err := json.Marshal(between(id, parent))
	if err != nil {
		return nil, err
	}
	response, err := d.post("Diff", bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_, err := read(response)
		return nil, err
	}
	return response.Body, nil
}

// ApplyDiff applies an archive; the size that the driver tells.
func (d *Driver) ApplyDiff(id, parent string, archive io.Reader) (int64, error) {
	query := url.Values{"id": {id}, "parent": {parent}}
	response, err := d.post("ApplyDiff?"+query.Encode(), archive)
	if err != nil {
		return 0, err
	}
	said, err := read(response)
	return said.Size, err
}

// Close has the driver give everything back, and ends its process.
func (d *Driver) Close() error {
	_, err := d.call("Cleanup", nil)
	d.end()
	return err
}
