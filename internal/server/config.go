package server

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is what an operator chooses. It is read from one YAML file, then from variables MOORAGE_…, then from flags;
// the later wins. The zero value of every field means its default.
type Config struct {
	// Data is the folder that holds everything the server keeps. One server holds it at a time.
	Data string `yaml:"data"`
	// Listen is host:port. An address outside loopback needs AllowRemote.
	Listen      string `yaml:"listen"`
	AllowRemote bool   `yaml:"allow_remote"`
	// Names are further host names and IP addresses that the certificate is to hold.
	Names []string `yaml:"names"`
	// Database is "postgres://…"; empty: SQLite in the data folder.
	Database string `yaml:"database"`
	// Blobs is the folder of bytes: logs, outputs, snapshots; empty: blobs in the data folder. Servers that share a
	// PostgreSQL database share it too.
	Blobs string `yaml:"blobs"`
	// MasterKeyFile is where the master key is kept; empty: keys/master.key in the data folder.
	MasterKeyFile string `yaml:"master_key_file"`
	LogLevel      string `yaml:"log_level"`  // debug, info, warn, error
	LogFormat     string `yaml:"log_format"` // text, json
	// Workspace is the one that exists from the start.
	Workspace WorkspaceConfig `yaml:"workspace"`
	// DefaultCompute takes jobs that name none; empty: local.
	DefaultCompute string `yaml:"default_compute"`
	// NoLocal leaves the machine of the server out: no compute "local" is attached at the first start.
	NoLocal bool `yaml:"no_local"`
	// Curated is a file with the operator's own table of curated environments.
	Curated string `yaml:"curated_environments"`
	// PackageIndex is the simple index from which environments are made; empty: each target's own configuration.
	PackageIndex string `yaml:"package_index"`
	// Python is which one serves in an environment where the one that it names is not on a compute: exact, or compatible,
	// which is the default.
	Python environment.Policy `yaml:"python"`
	Jobs   Jobs               `yaml:"jobs"`
	Tokens Tokens             `yaml:"tokens"`
	// Images says how images are made of environments.
	Images Images `yaml:"images"`
	// Azure is asked for the addresses of resource ids that nobody has entered.
	Azure Azure `yaml:"azure"`
	// AzureStrict demands of what is attached what Azure demands: Ubuntu and a public address of machines, a public address
	// of HDInsight clusters.
	AzureStrict bool `yaml:"azure_strict"`
	// MinFree is how much room must be free on the disks of data and blobs for new work to be taken; default 500 MB, but
	// a tenth of the disk at most.
	MinFree Size `yaml:"min_free"`
	// AuditRetention is how long an entry of the audit log is kept; default 400 days.
	AuditRetention time.Duration `yaml:"audit_retention"`
}

// WorkspaceConfig names the first workspace.
type WorkspaceConfig struct {
	Subscription  string `yaml:"subscription"`
	ResourceGroup string `yaml:"resource_group"`
	Name          string `yaml:"name"`
	Location      string `yaml:"location"`
}

// Jobs are the policies of jobs. A time of 0 means the default.
type Jobs struct {
	UnreachableAfter time.Duration `yaml:"unreachable_after"` // a job whose compute is silent for so long has failed; default 24h
	Keep             time.Duration `yaml:"keep"`              // an ended job's folder stays on the compute for so long; default 30s
	Grace            time.Duration `yaml:"grace"`             // between asking a job to end and ending it; default 10s
	Lease            time.Duration `yaml:"lease"`             // how long a compute stays with a server that is silent; default 10s
	Retention        time.Duration `yaml:"retention"`         // an ended job is deleted with its files after so long; default never
}

// Tokens are how long those are good for that the server issues. A time of 0 means the default.
type Tokens struct {
	Life    time.Duration `yaml:"life"`     // what a client gets for its secret; default 1h. Clients get new ones by themselves
	JobLife time.Duration `yaml:"job_life"` // what azureml-core finds in a job; default 9600h. Longer than jobs wait on their machine
}

// auditRetention is how long the audit log goes back where nobody says otherwise: more than a year, so that a yearly review sees all of it.
const auditRetention = 400 * 24 * time.Hour

// ReadConfig reads a YAML file. Unknown fields are an error with line and column, because a misspelt setting that is
// silently ignored is found out too late.
func ReadConfig(file string) (Config, error) {
	var c Config
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return c, &workspace.Problem{Class: workspace.Invalid, Code: "NoConfigFile", Message: "the configuration file " + file + " is not there", Mend: "correct --config, or leave it out"}
	}
	if err != nil {
		return c, fmt.Errorf("server: config: %w", err)
	}
	if err := environment.DecodeYAML(b, &c, yaml.DisallowUnknownField()); err != nil {
		return c, &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidConfig", Message: "the configuration file " + file + " cannot be used", Cause: err.Error(), Mend: "correct that line",
		}
	}
	return c, nil
}

// DefaultData is the data folder where none is named.
func DefaultData() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &workspace.Problem{Class: workspace.Invalid, Code: "NoDataFolder", Message: "no data folder is named", Cause: err.Error(), Mend: "name one: --data DIR"}
	}
	return filepath.Join(home, ".local", "share", "moorage"), nil
}

// complete fills in defaults and refuses what cannot work.
func (c Config) complete() (Config, error) {
	if c.Data == "" {
		data, err := DefaultData()
		if err != nil {
			return c, err
		}
		c.Data = data
	}
	var err error
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return c, fmt.Errorf("server: data folder: %w", err)
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:8443"
	}
	if c.DefaultCompute == "" {
		c.DefaultCompute = "local"
	}
	if c.Blobs == "" {
		c.Blobs = filepath.Join(c.Data, "blobs")
	}
	if c.MasterKeyFile == "" {
		c.MasterKeyFile = filepath.Join(c.Data, "keys", "master.key")
	}
	w := &c.Workspace
	if w.Subscription == "" {
		w.Subscription = "00000000-0000-0000-0000-000000000001"
	}
	if w.ResourceGroup == "" {
		w.ResourceGroup = "moorage"
	}
	if w.Name == "" {
		w.Name = "main"
	}
	if w.Location == "" {
		w.Location = "local"
	}
	return c, cmp.Or(c.Tokens.check(), c.checkListen())
}

// check refuses times with which a job would lose its token: azureml-core looks every 30 seconds whether it needs a new one.
func (t Tokens) check() error {
	if t.Life < 0 || t.JobLife != 0 && t.JobLife < time.Minute {
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidTokenLife", Message: fmt.Sprintf("tokens cannot be good for %s, and in a job for %s", t.Life, t.JobLife),
			Mend: "let tokens.life be positive and tokens.job_life a minute or more, or leave them out",
		}
	}
	return nil
}

func (c Config) checkListen() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidListen", Message: fmt.Sprintf("%q is not an address to listen on", c.Listen), Cause: err.Error(), Mend: "write host:port, e.g. 127.0.0.1:8443"}
	}
	if c.AllowRemote || host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return nil
	}
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "RemoteNotAllowed", Message: fmt.Sprintf("%s can be reached from other machines", c.Listen),
		Cause: "whoever holds the administrator's secret could then run commands on every attached compute",
		Mend:  "add --allow-remote if that is what you want, or listen on 127.0.0.1",
	}
}
