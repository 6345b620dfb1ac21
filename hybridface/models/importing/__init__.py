"""Networks of other libraries as layer graphs with weights."""
