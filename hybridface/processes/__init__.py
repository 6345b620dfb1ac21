"""One process of a computation: how it starts, joins the others, does its part, reports and ends."""
