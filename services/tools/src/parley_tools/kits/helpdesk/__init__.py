"""The helpdesk kit: guided troubleshooting, tickets, handing over to people, and feedback."""
