"""Looking at kept audits in a local web page."""
