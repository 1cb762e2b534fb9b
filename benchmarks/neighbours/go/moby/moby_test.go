// Moby's graphtest on a driver behind the plugin protocol, with the tests and sizes of its own overlay2 driver.
package moby

import (
	"io"
	"testing"

	"github.com/docker/docker/daemon/graphdriver"
	"github.com/docker/docker/daemon/graphdriver/graphtest"
	"github.com/docker/docker/pkg/archive"
	"github.com/docker/docker/pkg/containerfs"
	"github.com/docker/docker/pkg/idtools"
	"github.com/docker/docker/pkg/reexec"

	"neighbours/plugin"
)

const name = "plugin"

func init() {
	reexec.Init()
	graphdriver.Register(name, func(home string, _ []string, _, _ []idtools.IDMap) (graphdriver.Driver, error) {
		opened, err := plugin.Open(home)
		return driver{opened}, err
	})
}

type driver struct {
	*plugin.Driver
}

func (d driver) String() string {
	return name
}

func options(given *graphdriver.CreateOpts) map[string]string {
	if given == nil {
		return nil
	}
	return given.StorageOpt
}

func (d driver) Create(id, parent string, given *graphdriver.CreateOpts) error {
	return d.Driver.Create(id, parent, false, options(given))
}

func (d driver) CreateReadWrite(id, parent string, given *graphdriver.CreateOpts) error {
	return d.Driver.Create(id, parent, true, options(given))
}

func (d driver) Get(id, label string) (containerfs.ContainerFS, error) {
	path, err := d.Driver.Get(id, label)
	if err != nil {
		return nil, err
	}
	return containerfs.NewLocalContainerFS(path), nil
}

func (d driver) GetMetadata(id string) (map[string]string, error) {
	return d.Metadata(id)
}

func (d driver) Changes(id, parent string) ([]archive.Change, error) {
	found, err := d.Driver.Changes(id, parent)
	changes := make([]archive.Change, 0, len(found))
	for _, one := range found {
		changes = append(changes, archive.Change{Path: one.Path, Kind: archive.ChangeType(one.Kind)})
	}
	return changes, err
}

func (d driver) ApplyDiff(id, parent string, diff io.Reader) (int64, error) {
	return d.Driver.ApplyDiff(id, parent, diff)
}

func (d driver) Cleanup() error {
	return d.Close()
}

// One driver is open from Setup to Teardown, so the order counts.

func TestSetup(t *testing.T) {
	graphtest.GetDriver(t, name)
}

func TestCreateEmpty(t *testing.T) {
	graphtest.DriverTestCreateEmpty(t, name)
}

func TestCreateBase(t *testing.T) {
	graphtest.DriverTestCreateBase(t, name)
}

func TestCreateSnap(t *testing.T) {
	graphtest.DriverTestCreateSnap(t, name)
}

func TestDeepLayerRead(t *testing.T) {
	graphtest.DriverTestDeepLayerRead(t, 128, name)
}

func TestDiffApply(t *testing.T) {
	graphtest.DriverTestDiffApply(t, 10, name)
}

func TestChanges(t *testing.T) {
	graphtest.DriverTestChanges(t, name)
}

func TestTeardown(t *testing.T) {
	graphtest.PutDriver(t)
}
