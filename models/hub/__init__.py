"""The Hugging Face hub: requests, retries, checksums, and its cache on this machine."""
