"""The container images: what each installs, locked, and a trial of it without a container."""
