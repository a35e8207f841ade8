"""UCI Heart Disease: four hospitals in three countries predict heart disease together, as FLamby's benchmark does."""
