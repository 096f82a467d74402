package store

import "database/sql"

// SQL returns the pool that writes, for tests that do what an attacker could do.
func SQL(s *Store) *sql.DB { return s.db.write }
