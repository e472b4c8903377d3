"""What people say about pictures: tags, ratings, captions; and how it survives changes of the files."""
