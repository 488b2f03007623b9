module keychainauth

go 1.19
