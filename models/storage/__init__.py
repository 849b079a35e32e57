"""The program's own files on this machine: folders, manifests, locks, disk space."""
