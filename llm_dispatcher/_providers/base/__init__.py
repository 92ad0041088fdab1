"""What all providers share: connections, decoding, encoding and the translation of errors."""
