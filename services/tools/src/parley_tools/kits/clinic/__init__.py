"""The clinic kit: triage, appointments, patients and their insurance, refills and medical history."""
