package main

import "runtime"

// floorSize is how much memory the collector believes to be in use besides what is.
const floorSize = 32 << 20

// heapFloor makes a running server collect garbage when it has made some tens of MiB of it, not some four: with a live
// heap of a few MiB, Go's default is a collection for every few hundred requests, dozens a second, which cost more than the
// cryptography. The octets are never touched, so they take address space and no memory. A setting of GOGC would do the
// same for a small heap and multiply a large one. It returns what lifts the floor.
func heapFloor() (lift func()) {
	floor := make([]byte, floorSize)
	return func() { runtime.KeepAlive(floor) }
}

// spareProcessor lets Go run one goroutine more at a time than there are processors. The one that waits for the disk in fsync(2)
// keeps its place among those that run until the runtime takes it away, which can be long after the disk is done: with two
// processors, half of the work stands still meanwhile. It is called before a server is made, which counts the turns of slow primitives
// by it: one turn fewer, and a processor stands still whenever a turn passes on.
func spareProcessor() { runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1) }
