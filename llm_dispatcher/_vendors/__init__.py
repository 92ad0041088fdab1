"""Everything that is known about a vendor or a host, in one table. Pure values: nothing here does I/O."""
