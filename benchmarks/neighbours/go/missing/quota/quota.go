// Package quota stands for github.com/docker/docker/quota, which Debian's package of moby's source leaves out. Only the
// test of quota, which is not run here, names its error.
package quota

import "errors"

// ErrQuotaNotSupported says that a driver has no quota.
var ErrQuotaNotSupported = errors.New("no quota")
