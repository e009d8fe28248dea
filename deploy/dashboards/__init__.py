"""The Grafana dashboards, built by `python -m deploy.dashboards`."""
