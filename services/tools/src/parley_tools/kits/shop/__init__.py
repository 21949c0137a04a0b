"""The shop kit: what is sold and in stock, the session's cart, and orders with their returns."""
