"""Protocols on shares between client and server: comparison, truncation, local layers, CrypTen's party."""
