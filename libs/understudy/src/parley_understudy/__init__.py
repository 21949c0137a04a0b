"""The understudy: a local stand-in for the OpenAI Realtime API that hears, thinks and speaks."""
