"""What several test modules share: pictures, servers, disks, ranks, a browser."""
