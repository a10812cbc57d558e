package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/data/history"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/secret"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// openKeys reads the master key, and with it the certificate authority and the signing key, which lie sealed in the
// store so that several servers share them.
func (s *Server) openKeys(ctx context.Context) error {
	master, err := secret.Master(os.Getenv("MOORAGE_MASTER_KEY"), s.cfg.MasterKeyFile, rand.Reader)
	if err != nil {
		return err
	}
	if s.box, err = secret.NewBox(master); err != nil {
		return err
	}
	if err := s.certificates(ctx); err != nil {
		return err
	}
	signing, err := s.sealedSetting(ctx, "signing.key", func() ([]byte, error) {
		key := make([]byte, 32)
		_, err := rand.Read(key)
		return key, err
	})
	if err != nil {
		return err
	}
	admin, err := authn.AdminSecret(os.Getenv("MOORAGE_ADMIN_SECRET"), filepath.Join(s.cfg.Data, "keys", "admin.secret"), rand.Reader)
	if err != nil {
		return err
	}
	s.proxyWord = admin.ProxyWord()
	id, err := s.serverID(ctx)
	if err != nil {
		return err
	}
	if len(signing) != 32 {
		return errors.New("server: the signing key has a wrong length")
	}
	s.auth, err = authn.New(authn.Config{
		Key: [32]byte(signing), Server: id, Admin: admin, Clock: s.opts.Clock, Jobs: s.credentialJob, Runs: s.runOver,
		TokenLife: s.cfg.Tokens.Life, JobTokenLife: s.cfg.Tokens.JobLife,
	})
	return err
}

// serverID is this installation's name in keys of jobs; several servers on one database share it.
func (s *Server) serverID(ctx context.Context) (string, error) {
	id, err := s.setting(ctx, "server.id", func() ([]byte, error) { return []byte(s.opts.Clock.NewID()), nil })
	return string(id), err
}

func (s *Server) certificates(ctx context.Context) error {
	kept, err := s.sealedSetting(ctx, "authority", func() ([]byte, error) {
		host, err := os.Hostname()
		if err != nil {
			host = "server"
		}
		a, err := secret.NewAuthority(host, s.opts.Clock.Now())
		if err != nil {
			return nil, err
		}
		return a.Bytes()
	})
	if err != nil {
		return err
	}
	authority, err := secret.ReadAuthority(kept)
	if err != nil {
		return err
	}
	pair, err := authority.Issue(append(slices.Clip(s.cfg.Names), s.blobHost(), api.BlobHost), s.opts.Clock.Now())
	if err != nil {
		return err
	}
	s.ca = authority.Certificate()
	s.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return nil
}

// credentialJob tells authn what a job's credential depends on.
func (s *Server) credentialJob(ctx context.Context, jobID string) (authn.Job, error) {
	j, err := s.store.JobRow(ctx, jobID)
	if err != nil {
		return authn.Job{}, err
	}
	return authn.Job{Name: j.Name, Workspace: j.WorkspaceID, Attempt: j.Attempt, Over: j.State.Terminal()}, nil
}

// experimentID is the id by which the run history names an experiment.
func experimentID(ws workspace.Workspace, experiment string) string {
	return history.ExperimentID(ws.ID, experiment)
}

// afterEnd is for how long the token of a run without a job is good after the run ended: a script may end its run itself,
// and what it wrote is uploaded then.
const afterEnd = 15 * time.Minute

// runOver tells authn whether a run without a job has ended.
func (s *Server) runOver(ctx context.Context, workspaceID, run string) (bool, error) {
	r, err := s.store.Run(ctx, workspaceID, run)
	if err != nil {
		return true, err
	}
	return r.Job || r.End > 0 && s.opts.Clock.Millis()-r.End > afterEnd.Milliseconds(), nil
}

// setting reads a value that is made once for all servers on the store.
func (s *Server) setting(ctx context.Context, key string, build func() ([]byte, error)) ([]byte, error) {
	v, err := s.store.Setting(ctx, key)
	if !errors.Is(err, store.ErrNotFound) {
		return v, err
	}
	fresh, err := build()
	if err != nil {
		return nil, fmt.Errorf("server: setting %s: %w", key, err)
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		v, err = tx.PutSettingIfAbsent(ctx, key, fresh)
		return err
	})
	return v, err
}

func (s *Server) sealedSetting(ctx context.Context, key string, build func() ([]byte, error)) ([]byte, error) {
	place := "setting/" + key
	sealed, err := s.setting(ctx, key, func() ([]byte, error) {
		plain, err := build()
		if err != nil {
			return nil, err
		}
		return s.box.Seal(plain, place)
	})
	if err != nil {
		return nil, err
	}
	plain, err := s.box.Open(sealed, place)
	if p, ok := errors.AsType[*workspace.Problem](err); ok && p.Code == "WrongMasterKey" {
		wrong := *p
		wrong.Cause = "it is not the key in " + s.cfg.MasterKeyFile + " or MOORAGE_MASTER_KEY"
		wrong.Mend = "bring back the master key that belongs to this data; docs/howto/operate.md says what can be done without it"
		return nil, &wrong
	}
	if errors.Is(err, secret.ErrDamaged) {
		err = &workspace.Problem{Code: "DamagedSetting", Message: "the stored " + key + " is damaged", Mend: "restore the database from a backup"}
	}
	return plain, err
}
