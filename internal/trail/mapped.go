package trail

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
)

// mapFile returns the octets of a file without reading them: they come from the system's memory when they are looked at, which
// has to be within guarded, because the disk can fail. mapped says whether they must be given to unmap.
func mapFile(path string) (b []byte, mapped bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = f.Close() }() // the map stays
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if info.Size() == 0 {
		return nil, false, errDamaged
	}
	b, err = syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if errors.Is(err, syscall.ENOMEM) { // there are too many maps
		b, err = os.ReadFile(path)
		return b, false, err
	}
	return b, err == nil, err
}

// guarded runs f, which looks at mapped octets. If the disk does not give them the error is errDamaged.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			fault, ok := p.(runtime.Error)
			if _, addressed := p.(interface{ Addr() uintptr }); !ok || !addressed {
				panic(p)
			}
			err = fmt.Errorf("%w: %w", errDamaged, fault)
		}
	}()
	return f()
}

func unmap(b []byte) error { return syscall.Munmap(b) }
