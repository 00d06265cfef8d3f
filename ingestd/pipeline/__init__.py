"""The flow from drop directories to outputs; ``flow`` shows it whole."""
