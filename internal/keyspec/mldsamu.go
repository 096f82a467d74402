package keyspec

import (
	"bytes"
	"crypto/sha3"
)

// Verification of ML-DSA over mu (FIPS 204, algorithm 8): the modules sign a mu, but verify messages only. All of it works
// on public values, so that nothing here needs constant time.

// The constants of FIPS 204, table 1, that all parameter sets share.
const (
	mldsaQ       = 8380417 // the modulus
	mldsaN       = 256     // coefficients of a polynomial
	mldsaDropped = 13      // d: the bits that t1 lacks
	mldsaZeta    = 1753    // a 512th root of unity modulo q
)

// mldsaShape is one parameter set of FIPS 204, table 1.
type mldsaShape struct {
	k, l      int    // rows and columns of A
	gamma1Log int    // gamma1 is 2 to the power of it
	gamma2    uint32 // half of the range of the low-order bits
	tau       int    // coefficients of the challenge that are not 0
	beta      uint32 // tau times eta
	omega     int    // ones in the hint at most
	challenge int    // lambda/4: octets of the commitment hash
	w1Bits    int    // bits of a coefficient of w1
}

var (
	mldsaShape44 = &mldsaShape{4, 4, 17, (mldsaQ - 1) / 88, 39, 78, 80, 32, 6}
	mldsaShape65 = &mldsaShape{6, 5, 19, (mldsaQ - 1) / 32, 49, 196, 55, 48, 4}
	mldsaShape87 = &mldsaShape{8, 7, 19, (mldsaQ - 1) / 32, 60, 120, 75, 64, 4}
)

// polynomial has coefficients from 0 to q-1, in the order of their powers or of the NTT.
type polynomial [mldsaN]uint32

// zetas has the powers of zeta for the NTT, in the order of FIPS 204, appendix B.
var zetas = func() (z [mldsaN]uint32) {
	for i := range z {
		exponent := 0
		for bit := range 8 {
			exponent |= i >> bit & 1 << (7 - bit)
		}
		power := uint64(1)
		for range exponent {
			power = power * mldsaZeta % mldsaQ
		}
		z[i] = uint32(power)
	}
	return z
}()

func mulQ(a, b uint32) uint32 { return uint32(uint64(a) * uint64(b) % mldsaQ) }
func addQ(a, b uint32) uint32 { return (a + b) % mldsaQ }
func subQ(a, b uint32) uint32 { return (a + mldsaQ - b) % mldsaQ }

// ntt is algorithm 41.
func (w *polynomial) ntt() {
	m := 0
	for length := 128; length >= 1; length /= 2 {
		for start := 0; start < mldsaN; start += 2 * length {
			m++
			for j := start; j < start+length; j++ {
				t := mulQ(zetas[m], w[j+length])
				w[j+length] = subQ(w[j], t)
				w[j] = addQ(w[j], t)
			}
		}
	}
}

// inverseNTT is algorithm 42.
func (w *polynomial) inverseNTT() {
	m := mldsaN
	for length := 1; length < mldsaN; length *= 2 {
		for start := 0; start < mldsaN; start += 2 * length {
			m--
			for j := start; j < start+length; j++ {
				t := w[j]
				w[j] = addQ(t, w[j+length])
				w[j+length] = mulQ(mldsaQ-zetas[m], subQ(t, w[j+length]))
			}
		}
	}
	const inverse256 = 8347681 // of 256 modulo q
	for j := range w {
		w[j] = mulQ(w[j], inverse256)
	}
}

// sampleNTT is algorithm 30, RejNTTPoly: one entry of the matrix A, by rejection.
func sampleNTT(rho []byte, column, row int) (a polynomial) {
	h := sha3.NewSHAKE128()
	_, _ = h.Write(rho)
	_, _ = h.Write([]byte{byte(column), byte(row)})
	var b [3]byte
	for j := 0; j < mldsaN; {
		_, _ = h.Read(b[:])
		if c := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2]&0x7f)<<16; c < mldsaQ {
			a[j] = c
			j++
		}
	}
	return a
}

// sampleInBall is algorithm 29: the challenge, with tau coefficients of 1 or -1.
func sampleInBall(seed []byte, tau int) (c polynomial) {
	h := sha3.NewSHAKE256()
	_, _ = h.Write(seed)
	var signs [8]byte
	var j [1]byte
	_, _ = h.Read(signs[:])
	for i := mldsaN - tau; i < mldsaN; i++ {
		for {
			_, _ = h.Read(j[:])
			if int(j[0]) <= i {
				break
			}
		}
		c[i] = c[j[0]]
		c[j[0]] = 1
		if bit := i + tau - mldsaN; signs[bit/8]>>(bit%8)&1 == 1 {
			c[j[0]] = mldsaQ - 1
		}
	}
	return c
}

// unpack reads n integers of so many bits each, lowest bits first (algorithms 18 and 19).
func unpack(octets []byte, bits int) (p polynomial) {
	for i := range p {
		for b := range bits {
			at := i*bits + b
			p[i] |= uint32(octets[at/8]>>(at%8)&1) << b
		}
	}
	return p
}

// pack is algorithm 16, the inverse.
func pack(p *polynomial, bits int) []byte {
	octets := make([]byte, mldsaN*bits/8)
	for i := range p {
		for b := range bits {
			at := i*bits + b
			octets[at/8] |= byte(p[i]>>b&1) << (at % 8)
		}
	}
	return octets
}

// unpackHint is algorithm 21: y has the places of the ones, sorted for each polynomial, zeros, and where each one's end.
func (s *mldsaShape) unpackHint(y []byte) (hint [][mldsaN]bool, ok bool) {
	hint = make([][mldsaN]bool, s.k)
	at := 0
	for i := range hint {
		end, first := int(y[s.omega+i]), at
		if end < at || end > s.omega {
			return nil, false
		}
		for ; at < end; at++ {
			if at > first && y[at-1] >= y[at] {
				return nil, false
			}
			hint[i][y[at]] = true
		}
	}
	for _, rest := range y[at:s.omega] {
		if rest != 0 {
			return nil, false
		}
	}
	return hint, true
}

// useHint is algorithm 40: the high-order bits of r, corrected if there is a hint (algorithm 36 gives them).
func (s *mldsaShape) useHint(hint bool, r uint32) uint32 {
	alpha := 2 * s.gamma2
	m := (mldsaQ - 1) / alpha
	high, low := r/alpha, r%alpha
	positive := low != 0 && low <= s.gamma2 // the low-order bits, as a number around 0
	if low > s.gamma2 {
		high++
	}
	if high == m { // r minus the low-order bits is q-1: they become one less, and the others 0
		high = 0
	}
	switch {
	case !hint:
		return high
	case positive:
		return (high + 1) % m
	}
	return (high + m - 1) % m
}

// parse splits a signature (algorithm 27), and refuses z that are too large.
func (s *mldsaShape) parse(signature []byte) (challenge []byte, z []polynomial, hint [][mldsaN]bool, ok bool) {
	bits := s.gamma1Log + 1
	size := mldsaN * bits / 8
	if len(signature) != s.challenge+s.l*size+s.omega+s.k {
		return nil, nil, nil, false
	}
	challenge, signature = signature[:s.challenge], signature[s.challenge:]
	gamma1 := uint32(1) << s.gamma1Log
	bound := gamma1 - s.beta
	z = make([]polynomial, s.l)
	for i := range z {
		z[i] = unpack(signature[i*size:(i+1)*size], bits)
		for j, v := range z[i] {
			if v <= gamma1-bound || v >= gamma1+bound { // gamma1-v is the coefficient
				return nil, nil, nil, false
			}
			z[i][j] = subQ(gamma1, v)
		}
	}
	hint, ok = s.unpackHint(signature[s.l*size:])
	return challenge, z, hint, ok
}

// verify is algorithm 8 from its mu on. The public key has been parsed before.
func (s *mldsaShape) verify(public, mu, signature []byte) bool {
	challenge, z, hint, ok := s.parse(signature)
	if !ok {
		return false
	}
	for i := range z {
		z[i].ntt()
	}
	c := sampleInBall(challenge, s.tau)
	c.ntt()
	const rhoSize, t1Bits = 32, 10
	rho, packed := public[:rhoSize], public[rhoSize:]
	const t1Size = mldsaN * t1Bits / 8
	h := sha3.NewSHAKE256()
	_, _ = h.Write(mu)
	for row := range s.k {
		t1 := unpack(packed[row*t1Size:(row+1)*t1Size], t1Bits)
		for j := range t1 {
			t1[j] <<= mldsaDropped
		}
		t1.ntt()
		var w polynomial // A z - c t1 2^d, this row of it
		for column := range s.l {
			a := sampleNTT(rho, column, row)
			for j := range w {
				w[j] = addQ(w[j], mulQ(a[j], z[column][j]))
			}
		}
		for j := range w {
			w[j] = subQ(w[j], mulQ(c[j], t1[j]))
		}
		w.inverseNTT()
		for j := range w {
			w[j] = s.useHint(hint[row][j], w[j])
		}
		_, _ = h.Write(pack(&w, s.w1Bits))
	}
	again := make([]byte, s.challenge)
	_, _ = h.Read(again)
	return bytes.Equal(again, challenge)
}
