from react_ray.cli import main

main()
