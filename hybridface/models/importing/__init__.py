"""Turn networks of other libraries into layer graphs with weights."""
