@echo off
rem Runs the script of a run on this computer; azureml-core starts it in the copy of the project. Any Python will do for that.
setlocal DisableDelayedExpansion
for %%P in ({{python}} "python" "py") do (
  where %%P >nul 2>nul && (
    %%P "%~dp0run.py" >"%~dp0run.log" 2>&1
    exit /b
  )
  if exist %%P (
    %%P "%~dp0run.py" >"%~dp0run.log" 2>&1
    exit /b
  )
)
echo there is no Python on this computer>"%~dp0run.log"
exit /b 127
