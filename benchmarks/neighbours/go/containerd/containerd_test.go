// The suite of containerd's snapshotters on a graph driver behind the plugin protocol.
//
// A snapshotter keeps books of its own (keys, names, kinds, labels); here containerd's MetaStore keeps them. A snapshot
// is a layer of the driver, and is mounted by binding the tree that the driver shows.
package containerd

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/storage"
	"github.com/containerd/containerd/snapshots/testsuite"

	"neighbours/plugin"
)

type snapshotter struct {
	driver *plugin.Driver
	books  *storage.MetaStore
	got    map[string]bool // layers that are not put yet
}

func open(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	driver, err := plugin.Open(filepath.Join(root, "home"))
	if err != nil {
		return nil, nil, err
	}
	books, err := storage.NewMetaStore(filepath.Join(root, "books"))
	if err != nil {
		return nil, nil, err
	}
	s := &snapshotter{driver, books, map[string]bool{}}
	return s, s.end, nil
}

func (s *snapshotter) within(ctx context.Context, write bool, do func(context.Context) error) error {
	ctx, transaction, err := s.books.TransactionContext(ctx, write)
	if err != nil {
		return err
	}
	err = do(ctx)
	if err != nil || !write {
		transaction.Rollback()
		return err
	}
	return transaction.Commit()
}

func (s *snapshotter) Stat(ctx context.Context, key string) (info snapshots.Info, err error) {
	err = s.within(ctx, false, func(ctx context.Context) (err error) {
		_, info, _, err = storage.GetInfo(ctx, key)
		return err
	})
	return info, err
}

func (s *snapshotter) Update(
	ctx context.Context, info snapshots.Info, fields ...string,
) (updated snapshots.Info, err error) {
	err = s.within(ctx, true, func(ctx context.Context) (err error) {
		updated, err = storage.UpdateInfo(ctx, info, fields...)
		return err
	})
	return updated, err
}

func (s *snapshotter) Usage(ctx context.Context, key string) (usage snapshots.Usage, err error) {
	err = s.within(ctx, false, func(ctx context.Context) error {
		id, info, found, err := storage.GetInfo(ctx, key)
		if err != nil {
			return err
		}
		usage = found
		if info.Kind == snapshots.KindActive {
			usage, err = s.usage(ctx, id)
		}
		return err
	})
	return usage, err
}

func (s *snapshotter) usage(ctx context.Context, id string) (snapshots.Usage, error) {
	held, err := storage.IDMap(ctx)
	if err != nil {
		return snapshots.Usage{}, err
	}
	_, info, _, err := storage.GetInfo(ctx, held[id])
	if err != nil {
		return snapshots.Usage{}, err
	}
	parent := ""
	if info.Parent != "" {
		if parent, _, _, err = storage.GetInfo(ctx, info.Parent); err != nil {
			return snapshots.Usage{}, err
		}
	}
	size, err := s.driver.DiffSize(id, parent)
	return snapshots.Usage{Size: size}, err
}

func (s *snapshotter) Prepare(
	ctx context.Context, key, parent string, options ...snapshots.Opt,
) ([]mount.Mount, error) {
	return s.create(ctx, snapshots.KindActive, key, parent, options)
}

func (s *snapshotter) View(ctx context.Context, key, parent string, options ...snapshots.Opt) ([]mount.Mount, error) {
	return s.create(ctx, snapshots.KindView, key, parent, options)
}

func (s *snapshotter) create(
	ctx context.Context, kind snapshots.Kind, key, parent string, options []snapshots.Opt,
) (mounts []mount.Mount, err error) {
	err = s.within(ctx, true, func(ctx context.Context) error {
		made, err := storage.CreateSnapshot(ctx, kind, key, parent, options...)
		if err != nil {
			return err
		}
		below := ""
		if len(made.ParentIDs) > 0 {
			below = made.ParentIDs[0]
		}
		if err := s.driver.Create(made.ID, below, true, nil); err != nil {
			return err
		}
		mounts, err = s.mounts(made)
		return err
	})
	return mounts, err
}

func (s *snapshotter) Mounts(ctx context.Context, key string) (mounts []mount.Mount, err error) {
	err = s.within(ctx, false, func(ctx context.Context) error {
		found, err := storage.GetSnapshot(ctx, key)
		if err != nil {
			return err
		}
		mounts, err = s.mounts(found)
		return err
	})
	return mounts, err
}

func (s *snapshotter) mounts(of storage.Snapshot) ([]mount.Mount, error) {
	path, err := s.driver.Get(of.ID, "")
	if err != nil {
		return nil, err
	}
	if s.got[of.ID] { // one get is enough
		if err := s.driver.Put(of.ID); err != nil {
			return nil, err
		}
	}
	s.got[of.ID] = true
	options := []string{"rbind", "rw"}
	if of.Kind == snapshots.KindView {
		options = []string{"rbind", "ro"}
	}
	return []mount.Mount{{Type: "bind", Source: path, Options: options}}, nil
}

func (s *snapshotter) put(id string) error {
	if !s.got[id] {
		return nil
	}
	delete(s.got, id)
	return s.driver.Put(id)
}

func (s *snapshotter) Commit(ctx context.Context, name, key string, options ...snapshots.Opt) error {
	return s.within(ctx, true, func(ctx context.Context) error {
		id, _, _, err := storage.GetInfo(ctx, key)
		if err != nil {
			return err
		}
		usage, err := s.usage(ctx, id)
		if err != nil {
			return err
		}
		if _, err := storage.CommitActive(ctx, key, name, usage, options...); err != nil {
			return err
		}
		return s.put(id)
	})
}

func (s *snapshotter) Remove(ctx context.Context, key string) error {
	return s.within(ctx, true, func(ctx context.Context) error {
		id, _, err := storage.Remove(ctx, key)
		if err != nil {
			return err
		}
		if err := s.put(id); err != nil {
			return err
		}
		return s.driver.Remove(id)
	})
}

func (s *snapshotter) Walk(ctx context.Context, do snapshots.WalkFunc, filters ...string) error {
	return s.within(ctx, false, func(ctx context.Context) error {
		return storage.WalkInfo(ctx, do, filters...)
	})
}

func (s *snapshotter) Close() error {
	return s.books.Close()
}

func (s *snapshotter) end() error {
	for id := range s.got {
		s.driver.Put(id)
	}
	s.books.Close()
	return s.driver.Close()
}

func TestSnapshotter(t *testing.T) {
	testsuite.SnapshotterSuite(t, "plugin", open)
}
