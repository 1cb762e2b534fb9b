// The graphtest of containers/storage on a driver behind the plugin protocol, with the tests and sizes of its own
// overlay driver.
package storage

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/drivers/graphtest"
	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/directory"
	"github.com/containers/storage/pkg/idtools"
	"github.com/containers/storage/pkg/reexec"

	"neighbours/plugin"
)

const name = "plugin"

// The mode of the root of a base layer that this suite looks for; the protocol has no word for it.
const rootMode = 0555

func init() {
	reexec.Init()
	graphdriver.Register(name, func(home string, _ graphdriver.Options) (graphdriver.Driver, error) {
		opened, err := plugin.Open(home)
		return driver{opened, home}, err
	})
}

type driver struct {
	*plugin.Driver
	home string
}

func (d driver) String() string {
	return name
}

func (d driver) create(id, parent string, readWrite bool, given *graphdriver.CreateOpts) error {
	var options map[string]string
	if given != nil {
		options = given.StorageOpt
	}
	if err := d.Driver.Create(id, parent, readWrite, options); err != nil {
		return err
	}
	mode := os.FileMode(rootMode)
	if parent != "" {
		if status, err := os.Stat(d.upper(parent)); err == nil {
			mode = status.Mode()
		}
	}
	os.Chmod(d.upper(id), mode) // if that is no such directory, the tests will tell
	return nil
}

// The directory of a layer's own content, where all drivers of this family have it.
func (d driver) upper(id string) string {
	return filepath.Join(d.home, id, "diff")
}

func (d driver) Create(id, parent string, given *graphdriver.CreateOpts) error {
	return d.create(id, parent, false, given)
}

func (d driver) CreateReadWrite(id, parent string, given *graphdriver.CreateOpts) error {
	return d.create(id, parent, true, given)
}

// CreateFromTemplate makes a layer on the template, as their own overlay driver does.
func (d driver) CreateFromTemplate(
	id, template string, _ *idtools.IDMappings, _ string, _ *idtools.IDMappings, given *graphdriver.CreateOpts,
	readWrite bool,
) error {
	return d.create(id, template, readWrite, given)
}

func (d driver) Get(id string, options graphdriver.MountOpts) (string, error) {
	return d.Driver.Get(id, options.MountLabel)
}

func (d driver) ReadWriteDiskUsage(id string) (*directory.DiskUsage, error) {
	return directory.Usage(d.upper(id))
}

func (d driver) AdditionalImageStores() []string {
	return nil
}

func (d driver) Changes(
	id string, _ *idtools.IDMappings, parent string, _ *idtools.IDMappings, _ string,
) ([]archive.Change, error) {
	found, err := d.Driver.Changes(id, parent)
	changes := make([]archive.Change, 0, len(found))
	for _, one := range found {
		changes = append(changes, archive.Change{Path: one.Path, Kind: archive.ChangeType(one.Kind)})
	}
	return changes, err
}

func (d driver) Diff(
	id string, _ *idtools.IDMappings, parent string, _ *idtools.IDMappings, _ string,
) (io.ReadCloser, error) {
	return d.Driver.Diff(id, parent)
}

func (d driver) DiffSize(
	id string, _ *idtools.IDMappings, parent string, _ *idtools.IDMappings, _ string,
) (int64, error) {
	return d.Driver.DiffSize(id, parent)
}

func (d driver) ApplyDiff(id, parent string, options graphdriver.ApplyDiffOpts) (int64, error) {
	return d.Driver.ApplyDiff(id, parent, options.Diff)
}

func (d driver) UpdateLayerIDMap(string, *idtools.IDMappings, *idtools.IDMappings, string) error {
	return errors.New("the protocol has no word for it")
}

func (d driver) SupportsShifting() bool {
	return false
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

func TestCreateFromTemplate(t *testing.T) {
	graphtest.DriverTestCreateFromTemplate(t, name)
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

func TestEcho(t *testing.T) {
	graphtest.DriverTestEcho(t, name)
}
