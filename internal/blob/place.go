package blob

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// placeTries is how often Delete may take an empty folder away just before it is used.
const placeTries = 100

// place makes a finished file the blob of a name. It tells of what it placed, since another may replace it at once.
func (d *Disk) place(name, tmp string, meta Meta) (Info, error) {
	now := d.now()
	if err := d.root.Chtimes(tmp, now, now); err != nil { // file systems' own clocks are too coarse for an ETag
		return Info{}, err
	}
	stat, err := d.root.Stat(tmp)
	if err != nil {
		return Info{}, err
	}
	info := infoOf(name, stat)
	info.Meta = meta
	at := file(name)
	var oldest string
	for range placeTries {
		var made string
		if made, err = d.folders(path.Dir(at)); err == nil {
			err = d.putMeta(at, tmp, meta)
		}
		if err == nil {
			err = d.root.Rename(tmp, at)
		}
		if made != "" && (oldest == "" || len(made) < len(oldest)) {
			oldest = made
		}
		if err == nil {
			break
		}
		_ = d.root.Remove(tmp + "m") // if it was made
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return Info{}, err
	}
	for dir := path.Dir(at); ; dir = path.Dir(dir) {
		if err := d.syncFolder(dir); err != nil {
			return Info{}, err
		}
		if oldest == "" || len(dir) < len(oldest) || dir == places { // the folder that holds the oldest new one is flushed too
			return info, nil
		}
	}
}

// now is the time, later than any given before.
func (d *Disk) now() time.Time {
	for {
		last, now := d.stamp.Load(), time.Now().UnixNano()
		now = max(now, last+1)
		if d.stamp.CompareAndSwap(last, now) {
			return time.Unix(0, now)
		}
	}
}

// folders makes a folder and those above it, and names the highest that it made; none is "".
func (d *Disk) folders(dir string) (made string, err error) {
	err = d.root.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		return dir, nil
	case errors.Is(err, fs.ErrExist):
		return "", nil
	case !errors.Is(err, fs.ErrNotExist) || dir == places:
		return "", err
	}
	made, err = d.folders(path.Dir(dir))
	if err != nil {
		return made, err
	}
	if err := d.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return made, err
	}
	if made == "" {
		made = dir
	}
	return made, nil
}

func (d *Disk) putMeta(at, tmp string, meta Meta) error {
	side := strings.TrimSuffix(at, bytesEnd) + metaEnd
	if meta.empty() {
		if err := d.root.Remove(side); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	if err := d.writeFlushed(tmp+"m", b); err != nil {
		_ = d.root.Remove(tmp + "m")
		return err
	}
	return d.root.Rename(tmp+"m", side)
}

func (d *Disk) writeFlushed(at string, b []byte) error {
	f, err := d.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func (d *Disk) syncFolder(dir string) error {
	f, err := d.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted since
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
