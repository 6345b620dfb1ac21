"""The known face networks: a public layer graph, and weights for the server alone.

`model` has what `load_model` returns; `terms` what sessions take from it; the other modules one network each, and
`importing` how networks of other libraries become layer graphs.
"""
