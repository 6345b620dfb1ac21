"""Match a probe with templates on shares: is it the same person, and whose template is nearest?

`distance` compares a probe with one template. An identification takes these steps:

1. `private_templates` or `server_list`: distances of the probe to many templates;
2. `selection`: the smallest of shared keys;
3. `outcome`: the index that is opened;
4. `names`, for a list: the name of the person found.
"""
