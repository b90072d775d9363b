"""Whole networks of replicas in one thread of virtual time, decided by one seed."""
