"""Files of ours on this machine: folders, manifests, locks, disk space."""
