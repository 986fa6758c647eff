"""Google's Gemini API, and Gemini on Vertex AI."""
