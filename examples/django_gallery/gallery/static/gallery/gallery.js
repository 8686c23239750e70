/* The job has ended. Its row is saved by the project's own worker, some milliseconds later: the page is loaded again, and,
   where it comes too early, watches an ended job and is loaded once more. */
document.addEventListener("runpod-end", () => setTimeout(() => location.reload(), 700));
