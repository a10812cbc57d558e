package keeper

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
)

// A supervisor started as "keeper supervise --tell DIR" also prints its records, one a line, after each was written. Where
// reading a file of the target is dear and reading the supervisor's output is not, as in a container, that is how they are read.

type told struct {
	Name   string          `json:"name"`
	Record json.RawMessage `json:"record,omitempty"`
	Text   []byte          `json:"text,omitempty"` // of a short log, told before the exit
}

// write writes a record, and tells of it if that was asked for. A teller who cannot be heard changes nothing.
func (s *supervisor) write(name string, v any, durable bool) error {
	if err := writeRecord(s.dir, name, v, durable); err != nil || s.tell == nil {
		return err
	}
	if x, ok := v.(exitRecord); ok && x.Exit.LogSize > 0 && x.Exit.LogSize <= InlineLog {
		if b, err := os.ReadFile(filepath.Join(s.dir, fileLog)); err == nil {
			s.print(told{Name: fileLog, Text: b})
			x.Exit.Log = nil
			v = x
		}
	}
	b, err := json.Marshal(v)
	if err == nil {
		s.print(told{Name: name, Record: b})
	}
	return nil
}

func (s *supervisor) print(t told) {
	if b, err := json.Marshal(t); err == nil {
		_, _ = s.tell.Write(append(b, '\n'))
	}
}

// Told gives what a supervisor told, by the names of files in the job's folder. Of each, the last counts. Lines that are
// something else are passed over.
func Told(output []byte) map[string][]byte {
	all := map[string][]byte{}
	for line := range bytes.Lines(output) {
		var t told
		if err := json.Unmarshal(line, &t); err != nil || t.Name == "" {
			continue
		}
		all[t.Name] = t.Record
		if t.Record == nil {
			all[t.Name] = t.Text
		}
	}
	return all
}
