// Package v2 stands for github.com/docker/docker/plugin/v2, which Debian's package of moby's source leaves out. The
// graphdriver package names its type, in code that is not run here.
package v2

import (
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/pkg/plugingetter"
)

// Plugin is a managed plugin.
type Plugin struct {
	plugingetter.CompatPlugin
	PluginObj types.Plugin
}
