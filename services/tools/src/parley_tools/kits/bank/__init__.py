"""The bank kit: who a customer is, their accounts and transactions, fraud and cards, investing basics, loans."""
