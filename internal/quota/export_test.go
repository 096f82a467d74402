package quota

// Meters returns how many meters a book has.
func Meters(b *Book) (n int) {
	for i := range b.shards {
		n += len(*b.shards[i].meters.Load())
	}
	return n
}
