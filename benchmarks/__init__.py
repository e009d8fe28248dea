"""Every number that the README quotes, each as a command whose last line of output is JSON."""
