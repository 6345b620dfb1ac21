"""Match a probe with templates on shares: is it the same person, and whose template is nearest?

`distance` compares a probe with one template. An identification goes from module to module: distances from
`private_templates` or `server_list`, the smallest of shared keys (`selection`), the index that is opened (`outcome`),
and for a list the name of the person found (`names`).
"""
