"""A trial on real video with four calibrated cameras: detections, a triangulated reference, and scores."""
