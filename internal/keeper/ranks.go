package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The variables by which the processes of a job find each other are those that Azure sets (azureml-v2.md §9):
//
//	pytorch     RANK LOCAL_RANK NODE_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT
//	tensorflow  TF_CONFIG, all processes being workers
//	mpi         OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE and AZ_BATCH_MASTER_NODE, AZ_BATCHAI_MPI_MASTER_NODE
//	all         AZUREML_PROCESS_NAME
//
// With mpi no mpirun is started: programs that read the variables work, a library that wants its launcher starts it itself.

// The frameworks.
const (
	pytorch    = "pytorch"
	tensorflow = "tensorflow"
	mpi        = "mpi"
)

// maxRanks is how many processes a job may have on one node.
const maxRanks = 256

// rank is one process of a job.
type rank struct {
	vars []string // beside the job's own, NAME=value
	log  string   // the path of the file that it writes to
}

func (r *Ranks) perNode() int {
	if r == nil {
		return 1
	}
	return max(r.PerNode, 1)
}

func (r *Ranks) nodes() int {
	if r == nil {
		return 1
	}
	return max(r.Nodes, 1)
}

// node is this node's number.
func (r *Ranks) node() (int, error) {
	if r.NodeVariable == "" {
		return r.Node, nil
	}
	n, err := strconv.Atoi(os.Getenv(r.NodeVariable))
	if err != nil || n < 0 || n >= r.nodes() {
		return 0, fmt.Errorf("the variable %s, which is to hold the node's number, is %q", r.NodeVariable, os.Getenv(r.NodeVariable))
	}
	return n, nil
}

func (r *Ranks) host(node int) string {
	if r.Host == "" {
		return "127.0.0.1"
	}
	return strings.ReplaceAll(r.Host, "{{node}}", strconv.Itoa(node))
}

// ports are those of the node's processes; the first is the master's.
func (r *Ranks) ports() ([]int, error) {
	n := r.perNode()
	out := make([]int, n)
	first := r.Port
	if first == 0 && r.nodes() > 1 {
		first = DefaultPort
	}
	if first > 0 {
		for i := range out {
			out[i] = first + i
		}
		return out, nil
	}
	for i := range out { // free ones, all different because they are held until each is known
		ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		defer func() { _ = ln.Close() }()
		out[i] = ln.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // a TCP listener's
	}
	return out, nil
}

// variables are those of each of this node's processes.
func (r *Ranks) variables() ([][]string, error) {
	if r == nil {
		return [][]string{nil}, nil
	}
	node, err := r.node()
	if err != nil {
		return nil, err
	}
	ports, err := r.ports()
	if err != nil {
		return nil, err
	}
	out := make([][]string, r.perNode())
	for local := range out {
		out[local], err = r.ofProcess(node, local, ports)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *Ranks) ofProcess(node, local int, ports []int) ([]string, error) {
	here, all, n := r.perNode(), r.nodes()*r.perNode(), node*r.perNode()+local
	master := r.host(0)
	switch r.Framework {
	case pytorch:
		return pairs("AZUREML_PROCESS_NAME", "rank_"+strconv.Itoa(n), "RANK", n, "LOCAL_RANK", local, "NODE_RANK", node, "WORLD_SIZE", all, "LOCAL_WORLD_SIZE", here,
			"MASTER_ADDR", master, "MASTER_PORT", ports[0]), nil
	case mpi:
		return pairs("AZUREML_PROCESS_NAME", "rank_"+strconv.Itoa(n), "OMPI_COMM_WORLD_RANK", n, "OMPI_COMM_WORLD_SIZE", all, "OMPI_COMM_WORLD_LOCAL_RANK", local,
			"OMPI_COMM_WORLD_LOCAL_SIZE", here, "AZ_BATCHAI_MPI_MASTER_NODE", master, "AZ_BATCH_MASTER_NODE", net.JoinHostPort(master, strconv.Itoa(ports[0]))), nil
	case tensorflow:
		var workers []string
		for m := range r.nodes() {
			for _, port := range ports {
				workers = append(workers, net.JoinHostPort(r.host(m), strconv.Itoa(port)))
			}
		}
		config, err := json.Marshal(map[string]any{"cluster": map[string]any{"worker": workers}, "task": map[string]any{"type": "worker", "index": n}})
		return pairs("AZUREML_PROCESS_NAME", "worker_"+strconv.Itoa(n), "TF_CONFIG", string(config)), err
	}
	return pairs("AZUREML_PROCESS_NAME", "rank_"+strconv.Itoa(n)), nil
}

func pairs(words ...any) []string {
	out := make([]string, 0, len(words)/2)
	for i := 0; i < len(words); i += 2 {
		out = append(out, fmt.Sprintf("%v=%v", words[i], words[i+1]))
	}
	return out
}

// ranks are the job's processes on this node. The first writes to the job's log, each other one to a file in the folder logs of
// the working directory, which comes home: rank-1.txt and so on, by the rank in the whole job.
func (s *supervisor) ranks() ([]rank, error) {
	r := s.spec.Job.Ranks
	vars, err := r.variables()
	if err != nil {
		return nil, err
	}
	out := make([]rank, len(vars))
	for i := range out {
		out[i] = rank{vars[i], filepath.Join(s.dir, fileLog)}
		if i == 0 {
			continue
		}
		node, err := r.node()
		if err != nil {
			return nil, err
		}
		out[i].log = filepath.Join(s.dir, dirCode, "logs", fmt.Sprintf("rank-%d.txt", node*r.perNode()+i))
		f, err := os.OpenFile(out[i].log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// limitLogs keeps the files of all ranks within the log's limit. The result ends that, and tells the size of the first's and
// what was dropped of it.
func limitLogs(ranks []rank, limit int64) func() (size, dropped int64) {
	var all []*limiter
	for _, r := range ranks {
		all = append(all, newLimiter(r.log, limit))
	}
	return func() (int64, int64) {
		size, dropped := all[0].finish()
		for _, l := range all[1:] {
			l.finish()
		}
		return size, dropped
	}
}

var errRanks = errors.New("a job has 1 to " + strconv.Itoa(maxRanks) + " processes on a node, and its node's number is below the number of nodes")

func (r *Ranks) check() error {
	if r == nil {
		return nil
	}
	if r.PerNode < 0 || r.PerNode > maxRanks || r.Nodes < 0 || r.Node < 0 || r.Node >= r.nodes() || r.Port < 0 || r.Port+r.perNode() > 65535 {
		return errRanks
	}
	return nil
}
